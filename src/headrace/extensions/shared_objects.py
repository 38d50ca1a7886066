"""The base of the users' halves: the client that an object talks by, and requests that are withdrawn when cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar

from headrace.common.current_run import worker_here

if TYPE_CHECKING:
    from headrace.client.client import Client
    from headrace.rpc.loops.sync_methods import SyncMethodMixin

logger = logging.getLogger("distributed.client")

T = TypeVar("T")

#: A user's timeout: seconds, text such as "200ms", a `timedelta`, or None for ever.
Timeout: TypeAlias = float | str | timedelta | None

#: Tasks that withdraw requests or give up leases, until they are done.
_withdrawing: set[asyncio.Task[Any]] = set()


class SyncKeywords(TypedDict, total=False):
    """Keywords of `Client.sync` that methods of shared objects hand on."""

    asynchronous: bool | None
    callback_timeout: float | str | None


class Shared:
    """An object of the whole cluster, found by its name.

    Such an object can be made and pickled without a client: it talks by the one of the task or process that uses it.
    """

    _client: Client | None = None

    @property
    def client(self) -> Client:
        """The client that carries the requests: the one that was given, or that of the task or process.

        Raises:
            RuntimeError: neither the task nor the process has one.
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


def holder(client: Client) -> dict[str, Any]:
    """The holder of a lease, as requests name it: the client and, in a task, its worker."""
    worker = worker_here()
    return {"client": client.id, "worker": worker.address if worker is not None else None}


def noted(answer: T, note: Callable[[], None]) -> T:
    """The answer to a request; when it came in this thread, and is yes, that is noted."""
    if answer is True:
        note()
    return answer


async def awaited(value: object) -> Any:
    """The result of a method that returns an awaitable or, to a thread that waited, the result itself."""
    return await value if asyncio.iscoroutine(value) or asyncio.isfuture(value) else value


def begun(answer: Any) -> Any:
    """The answer of a method; an awaitable one is under way by now, whether anybody awaits it or not."""
    return _in_background(answer) if asyncio.iscoroutine(answer) else answer


def hashable(name: Any) -> Any:
    """The name of a shared object; a list stands for a tuple."""
    return tuple(hashable(item) for item in name) if isinstance(name, list) else name


async def until_cancelled(
    request: Coroutine[Any, Any, T],
    withdraw: Callable[[], Awaitable[object]],
    undo: Callable[[T], Awaitable[object]],
) -> T:
    """Await a request; if that is cancelled, withdraw it; if it is granted nevertheless, undo that.

    Args:
        withdraw: coroutine function; tells the scheduler that nobody waits any more.
        undo: coroutine function; called with the answer if one came.
    """
    task = asyncio.ensure_future(request)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        _in_background(_settle(task, withdraw, undo))
        raise
    except OSError:  # the connection broke: the request may have been granted, and the answer lost
        _in_background(_settle(None, withdraw, undo))
        raise


async def to_the_end(request: Coroutine[Any, Any, T]) -> T:
    """Await a request that is made to its end even if that is cancelled."""
    return await asyncio.shield(_in_background(request))


def unless_interrupted(caller: SyncMethodMixin, call: Callable[[], T], undo: Callable[[], Awaitable[object]]) -> T:
    """Call a function that waits in this thread; if an exception strikes here instead, give its result back.

    The thread of a task that is interrupted (a limit, a cancellation, Ctrl-C) sees that only when it wakes up, often
    because it has just been given what it waited for.

    Args:
        caller: the client, or whatever else makes the call on its loop.
        undo: called on the caller's loop, after all that the call has done there.
    """
    try:
        return call()
    except BaseException:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the connection, and all leases of it, ended
            caller.loop.add_callback(_quietly, undo)
        raise


def _in_background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    task = asyncio.ensure_future(work)
    _withdrawing.add(task)
    task.add_done_callback(_withdrawing.discard)
    return task


async def _quietly(undo: Callable[[], Awaitable[object]]) -> None:
    try:
        await undo()
    except Exception as error:  # the connection broke: the scheduler gives up what its client held
        logger.debug("What a call had got when it was interrupted could not be given back: %r", error)


async def _settle(
    task: asyncio.Task[T] | None,
    withdraw: Callable[[], Awaitable[object]],
    undo: Callable[[T], Awaitable[object]],
) -> None:
    try:
        if task is None or not task.done():
            await withdraw()
    except Exception as error:  # then the request ends with its connection
        logger.debug("A request could not be withdrawn: %r", error)
    if task is None:
        return
    try:
        await undo(await task)
    except Exception as error:  # the connection broke: the scheduler gives up what its client held
        logger.debug("A request that was cancelled ended with %r", error)
