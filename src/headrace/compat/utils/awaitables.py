"""Several awaitables at once, and one that is none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Iterable
from functools import partial
from typing import Any as AnyType

logger = logging.getLogger("distributed.utils")

Quiet = tuple[type[Exception], ...] | type[Exception]


async def All(args: Iterable[AnyType], quiet_exceptions: Quiet = ()) -> list[AnyType]:
    """The results of several awaitables, in order; as soon as one fails, its exception. The others go on.

    Args:
        args: coroutines, tasks or futures.
        quiet_exceptions: types of later exceptions that are not logged.
    """
    tasks = await _some(args, asyncio.FIRST_EXCEPTION, quiet_exceptions)
    return [task.result() for task in tasks]


async def Any(args: Iterable[AnyType], quiet_exceptions: Quiet = ()) -> list[AnyType]:
    """The results of several awaitables, once one has a result: None stands for those of the others, which go on."""
    tasks = await _some(args, asyncio.FIRST_COMPLETED, quiet_exceptions)
    return [task.result() if task.done() else None for task in tasks]


async def _some(args: Iterable[AnyType], when: str, quiet: Quiet) -> list[asyncio.Future[AnyType]]:
    """The tasks of awaitables, once enough are done; raises what one of these raised."""
    tasks = [asyncio.ensure_future(one) for one in args]
    if not tasks:
        return tasks
    done, pending = await asyncio.wait(tasks, return_when=when)
    for task in pending:
        task.add_done_callback(partial(_log_failure, quiet))
    failed = [task for task in tasks if task in done and (task.cancelled() or task.exception() is not None)]
    for task in failed[1:]:
        _log_failure(quiet, task)
    if failed:
        failed[0].result()
    return tasks


def _log_failure(quiet: Quiet, task: asyncio.Future[AnyType]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, quiet):
        logger.error("Failed after another one that was waited for: %r", error, exc_info=error)


class NoOpAwaitable:
    """Can be awaited and gives None: for methods that are called from synchronous and asynchronous code."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield
