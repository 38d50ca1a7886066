"""What the users' halves share: whose client they talk by, and requests that are withdrawn when they are cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from headrace.common.current_run import worker_here
from headrace.config import parse_seconds

logger = logging.getLogger("distributed.client")

#: Tasks that withdraw requests or give up leases, until they are done.
_withdrawing: set[asyncio.Task[Any]] = set()


def seconds_of(timeout: Any) -> float | None:
    """A user's timeout (number, text such as "200ms", `timedelta` or None for ever) in seconds."""
    if isinstance(timeout, timedelta):
        return timeout.total_seconds()
    return None if timeout is None else parse_seconds(timeout)


class Shared:
    """An object of the whole cluster, found by its name.

    It can be made and pickled without a client: it talks by the one of the task or process that uses it.
    """

    _client: Any = None

    @property
    def client(self) -> Any:
        """The client that carries the requests: the one that was given, or that of the task or process.

        Raises:
            RuntimeError: there is none here.
        """
        if self._client is None or self._client.status in ("closing", "closed"):
            from headrace.client.current import get_client

            try:
                self._client = get_client()
            except ValueError as error:
                raise RuntimeError(
                    f"{self!r} cannot be used here: there is neither a client nor a worker in this process. "
                    "Make a Client first."
                ) from error
        return self._client

    def _sync(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.client.sync(function, *args)


def holder(client: Any) -> dict[str, Any]:
    """Who asks: the client and, in a task, its worker."""
    worker = worker_here()
    return {"client": client.id, "worker": worker.address if worker is not None else None}


def noted(answer: Any, note: Callable[[], None]) -> Any:
    """The answer to a request; when it came in this thread, and is yes, that is noted."""
    if answer is True:
        note()
    return answer


async def awaited(value: Any) -> Any:
    """The result of what may be awaitable or the result itself, as methods return them."""
    return await value if asyncio.iscoroutine(value) or asyncio.isfuture(value) else value


async def until_cancelled(
    request: Coroutine[Any, Any, Any], withdraw: Callable[[], Coroutine[Any, Any, Any]], undo: Callable[[Any], Any]
) -> Any:
    """Await a request; if that is cancelled, withdraw it, and undo what it brings nevertheless.

    Args:
        withdraw: tells the scheduler that nobody waits any more.
        undo: coroutine function; called with the answer if one came.
    """
    task = asyncio.ensure_future(request)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        _in_background(_settle(task, withdraw, undo))
        raise
    except OSError:  # cut off: it may have been granted, and the answer lost
        _in_background(_settle(None, withdraw, undo))
        raise


async def to_the_end(request: Coroutine[Any, Any, Any]) -> Any:
    """Await a request that is made to its end even if that is cancelled."""
    return await asyncio.shield(_in_background(request))


def unless_interrupted(client: Any, call: Callable[[], Any], undo: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Call what waits in this thread for something; if an exception strikes here instead, have undone what it got.

    The thread of a task that is interrupted (a limit, a cancellation, Ctrl-C) sees that only when it wakes up, often
    because it has just been given what it waited for.

    Args:
        undo: called on the client's loop, after all that the call has done there.
    """
    try:
        return call()
    except BaseException:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and what was had has gone with it
            client.loop.add_callback(_quietly, undo)
        raise


def _in_background(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(work)
    _withdrawing.add(task)
    task.add_done_callback(_withdrawing.discard)
    return task


async def _quietly(undo: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    try:
        await undo()
    except Exception as error:  # the connection went, and all with it
        logger.debug("What a call had got when it was interrupted could not be given back: %r", error)


async def _settle(
    task: asyncio.Task[Any] | None, withdraw: Callable[[], Coroutine[Any, Any, Any]], undo: Callable[[Any], Any]
) -> None:
    try:
        if task is None or not task.done():
            await withdraw()
    except Exception as error:  # then it ends with its connection
        logger.debug("A request could not be withdrawn: %r", error)
    if task is None:
        return
    try:
        await undo(await task)
    except Exception as error:  # the connection went, and all with it
        logger.debug("A request that was cancelled ended with %r", error)
