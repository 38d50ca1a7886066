"""`ClientExecutor`: a cluster behind the standard library's `concurrent.futures.Executor`.

Its futures are the standard library's own, so `concurrent.futures.wait` and `as_completed` take them. Each is fed by a
`Future` of the client; nothing here waits in a thread of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import itertools
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client
    from .future import Future
    from .state import FutureState

#: Keywords that are passed on to `Client.submit`.
KEYWORDS = frozenset({"pure", "workers", "resources", "allow_other_workers", "retries"})


class ClientExecutor(concurrent.futures.Executor):
    """Runs calls on a cluster.

    Args:
        client: by which.
        kwargs: for each call: `pure` (True by default: equal calls are run once), `workers`, `resources`,
            `allow_other_workers`, `retries`, as in `Client.submit`.

    Raises:
        TypeError: another keyword.
    """

    def __init__(self, client: Client, **kwargs: Any) -> None:
        unknown = sorted(kwargs.keys() - KEYWORDS)
        if unknown:
            raise TypeError(f"unsupported arguments to ClientExecutor: {unknown}; there are {sorted(KEYWORDS)}")
        self._client = client
        self._kwargs = kwargs
        self._shut = False
        self._open: weakref.WeakSet[_ClusterFuture] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"<ClientExecutor of {self._client!r}{', shut down' if self._shut else ''}>"

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Call a function on the cluster.

        Futures of the client among the arguments stand for their results, as in `Client.submit`.

        Raises:
            RuntimeError: this executor is shut down.
        """
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if kwargs.keys() & _taken():  # which are the function's here, not the client's
            return self._watched(self._client.submit(_call_with, fn, args, kwargs, **self._kwargs))
        return self._watched(self._client.submit(fn, *args, **kwargs, **self._kwargs))

    def _watched(self, source: Future[Any]) -> concurrent.futures.Future[Any]:
        future = _ClusterFuture(source)
        self._open.add(future)
        if not self._client.held.add_waiter(source._bound(), future.on_done):
            future.on_done(source._bound())
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **kwargs: object,
    ) -> Iterator[Any]:
        """Call a function on each of some arguments; yields the results in order.

        Args:
            timeout: seconds, from this call on, after which a result that is asked for and not there is an error.
            chunksize: calls that share a task; small calls cost less so.

        Raises:
            RuntimeError: this executor is shut down.
            ValueError: `chunksize` is less than 1.
            TypeError: another keyword.
            TimeoutError: while the results are iterated over: the time is up; what has not run is cancelled.
        """
        if kwargs:
            raise TypeError(f"unexpected arguments to map(): {sorted(kwargs)}")
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        deadline = None if timeout is None else time.monotonic() + timeout
        rows = zip(*iterables, strict=False)
        if chunksize > 1:
            chunks = list(iter(lambda: list(itertools.islice(rows, chunksize)), []))
            sources = self._client.map(partial(_call_each, fn), chunks, **self._kwargs) if chunks else []
        else:
            columns = list(zip(*rows, strict=True))
            sources = self._client.map(fn, *columns, **self._kwargs) if columns else []
        return _results([self._watched(source) for source in sources], deadline, chunksize > 1)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: until all have ended. Otherwise what has not ended is cancelled.
            cancel_futures: cancel what has not ended.
        """
        self._shut = True
        pending = [future for future in list(self._open) if not future.done()]
        if cancel_futures or not wait:
            for future in pending:
                future.cancel()
        if wait and pending:
            concurrent.futures.wait(pending)


class _ClusterFuture(concurrent.futures.Future[Any]):
    """The standard library's view of a client's future.

    Cancelling it cancels the task. It never says that it is running: the client does not know, and one that says so
    could not be cancelled.
    """

    def __init__(self, source: Future[Any]) -> None:
        super().__init__()
        self._source: Future[Any] | None = source

    def cancel(self) -> bool:
        source = self._source
        if not super().cancel():
            return False
        with self._condition:
            if self._state == "CANCELLED":  # tell those who wait
                self.set_running_or_notify_cancel()
        if source is not None:
            self._source = None
            _in_background(
                source.client, source.client._cancel([source], False, "cancelled by the executor's user", None)
            )
        return True

    def on_done(self, state: FutureState) -> None:
        """The client's future has ended; on the client's loop, or in the thread that submitted."""
        source = self._source
        if source is not None and not self.done():
            _in_background(source.client, self._fetch(source))

    async def _fetch(self, source: Future[Any]) -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = await source.client._result_async(source, None)
        except asyncio.CancelledError:
            error = concurrent.futures.CancelledError()
        except BaseException as failure:
            error = failure
        self._source = None
        if isinstance(error, concurrent.futures.CancelledError):
            self.cancel()
            return
        with self._condition:
            if self._state != "PENDING":  # cancelled meanwhile
                return
            self.set_running_or_notify_cancel()
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)


@functools.cache
def _taken() -> frozenset[str]:
    """Names of the parameters of a client's `submit`."""
    from .client import Client

    parameters = inspect.signature(Client.submit).parameters.values()
    return frozenset(each.name for each in parameters if each.kind is not each.VAR_KEYWORD)


def _call_with(function: Callable[..., Any], args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
    return function(*args, **kwargs)


def _in_background(client: Client, work: Coroutine[Any, Any, object]) -> None:
    try:
        asyncio.run_coroutine_threadsafe(work, client.loop.asyncio_loop)
    except RuntimeError:  # the loop is closed, and everything with it
        work.close()


def _call_each(function: Callable[..., Any], rows: list[tuple[Any, ...]]) -> list[Any]:
    return [function(*row) for row in rows]


def _results(futures: list[concurrent.futures.Future[Any]], deadline: float | None, chunked: bool) -> Iterator[Any]:
    futures.reverse()
    try:
        while futures:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            found = futures[-1].result(left)
            futures.pop()  # so that it does not outlive its use
            if chunked:
                yield from found
            else:
                yield found
    finally:
        for future in futures:
            future.cancel()


def CompatibleExecutor(*args: object, **kwargs: object) -> None:
    """Is no more.

    Raises:
        Exception: always; says what to use instead.
    """
    raise Exception("This has been moved to the Client.get_executor() method")
