"""`wait`, `as_completed`, `fire_and_forget` and `futures_of`: functions over futures of whatever client made them."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED
from concurrent.futures import Future as ConcurrentFuture
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from dask._task_spec import GraphNode
from dask.base import is_dask_collection

from headrace.common.keys import Key
from headrace.config import parse_seconds
from headrace.messages.client import DesireKeys
from headrace.rpc import IOLoop

from .api.data import timed_out
from .current import default_client
from .errors import FutureCancelledError, FuturesCancelledError
from .future import Future, load_error, load_result, refuse_cancelled
from .state import FutureState
from .waiting_in_tasks import LOOK

if TYPE_CHECKING:
    from headrace.actor import BaseActorFuture

    from .client import Client


class DoneAndNotDoneFutures(NamedTuple):
    """The result of `wait`."""

    done: set[Future[Any]]
    not_done: set[Future[Any]]


def futures_of(o: Any, client: Client | None = None) -> list[Future[Any]]:
    """The futures in nested containers and dask collections, each once, in order.

    Args:
        client: binds futures that have no client yet.

    Raises:
        FuturesCancelledError: a client was named, and some of the futures were cancelled.
    """
    found = find_futures(o, client)
    if client is not None:
        refuse_cancelled([future._bound() for future in found])
    return found


def find_futures(o: Any, client: Client | None = None) -> list[Future[Any]]:
    """The same as `futures_of`, cancelled futures among them."""
    found: dict[Future[Any], None] = {}
    stack = [o]
    while stack:
        item = stack.pop()
        if isinstance(item, Future):
            found[item] = None
        elif type(item) in (list, tuple, set, frozenset):
            stack.extend(item)
        elif type(item) is dict:
            stack.extend(item.values())
        elif isinstance(item, GraphNode):
            stack.extend(getattr(item, "args", ()))
            stack.extend(getattr(item, "kwargs", {}).values())
            value = getattr(item, "value", None)
            if isinstance(value, (Future, list, tuple, set, dict)):
                stack.append(value)
        elif is_dask_collection(item):
            graph = item.__dask_graph__()
            stack.extend(graph.values())
    if client is not None:
        for future in found:
            future.bind_client(client)
    return list(found)[::-1]


def wait(fs: object, timeout: float | str | None = None, return_when: str = ALL_COMPLETED) -> Any:
    """Wait until futures are done.

    Args:
        fs: futures, in nested containers or collections.
        timeout: seconds, or text such as "10 minutes".
        return_when: "ALL_COMPLETED" or "FIRST_COMPLETED".

    Returns:
        `(done, not_done)`, two sets (an awaitable of these on an asynchronous client's loop).

    Raises:
        TimeoutError: the time is over.
        FuturesCancelledError: some of them were cancelled.
        NotImplementedError: another `return_when`.
        TypeError: `timeout` is neither number nor text: futures are given as one list.
    """
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED):
        raise NotImplementedError(
            f"Only return_when='ALL_COMPLETED' and 'FIRST_COMPLETED' are supported, not {return_when!r}"
        )
    if isinstance(timeout, (Future, list, tuple, set, dict)):
        raise TypeError(
            "timeout= must be seconds, or text such as '10s': give wait several futures as one list, wait([x, y])"
        )
    seconds = None if timeout is None else parse_seconds(timeout)
    futures = find_futures(fs)
    client = futures[0].client if futures else default_client()
    states = [future._bound() for future in futures]
    count = 1 if return_when == FIRST_COMPLETED else None
    if client.asynchronous:
        return _wait_async(client, futures, states, seconds, count)
    if not client.held.wait(states, seconds, count=count):
        raise timed_out(timeout)
    return _done_and_not_done(futures)


async def _wait_async(
    client: Client, futures: list[Future[Any]], states: list[FutureState], timeout: float | None, count: int | None
) -> DoneAndNotDoneFutures:
    if not await client.held.wait_async(states, timeout, count=count):
        raise timed_out(timeout)
    return _done_and_not_done(futures)


def _done_and_not_done(futures: Iterable[Future[Any]]) -> DoneAndNotDoneFutures:
    done: set[Future[Any]] = set()
    not_done: set[Future[Any]] = set()
    cancelled = []
    for future in futures:
        state = future._bound()
        if state.status == "cancelled":
            cancelled.append(load_error(state))
        (done if state.done() else not_done).add(future)
    if cancelled:
        raise FuturesCancelledError.of(error for error in cancelled if isinstance(error, FutureCancelledError))
    return DoneAndNotDoneFutures(done, not_done)


def fire_and_forget(obj: object) -> None:
    """Have tasks run to their end although nobody keeps their futures; their results are not kept.

    Args:
        obj: futures, in nested containers or collections.
    """
    by_client: dict[Client, list[Key]] = {}
    for future in find_futures(obj):
        future.client.outbox.check_open()
        by_client.setdefault(future.client, []).append(future._bound().key)
    for client, keys in by_client.items():
        client.held.hold_until_done(keys)
        client.outbox.post(DesireKeys(keys, True))


class as_completed:
    """Iterates over futures as they complete; more can be added meanwhile. Works in `for` and `async for`.

    What calls of actors' methods return (`ActorFuture`) counts as a future here, too.

    Args:
        futures: the first of them.
        loop: of the client whose futures these will be, when there are none at first.
        with_results: yield `(future, result)`, with results that are here already.
        raise_errors: with results: raise what a task raised; else its result is `(type, exception, traceback)`.
        timeout: seconds (or text), from now on, after which the iterator raises `TimeoutError`.
    """

    def __init__(
        self,
        futures: Iterable[Future[Any] | BaseActorFuture[Any]] | None = None,
        loop: IOLoop | asyncio.AbstractEventLoop | None = None,
        with_results: bool = False,
        raise_errors: bool = True,
        timeout: float | str | None = None,
    ) -> None:
        self.futures: defaultdict[Any, int] = defaultdict(int)
        self.queue: SimpleQueue[Any] = SimpleQueue()
        self.lock = threading.Lock()
        self.with_results = with_results
        self.raise_errors = raise_errors
        self._loop = loop
        self._deadline = None if timeout is None else time.monotonic() + parse_seconds(timeout)
        self._timeout = timeout
        self._condition = threading.Condition(self.lock)
        self._sleepers: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._generation = 0
        self._tasks: set[Any] = set()
        if futures is not None:
            self.update(futures)

    def __repr__(self) -> str:
        with self.lock:
            return f"<as_completed: waiting={len(self.futures)} done={self.queue.qsize()}>"

    @property
    def loop(self) -> IOLoop:
        """The event loop of the futures' client."""
        if self._loop is None:
            self._loop = default_client().loop
        return IOLoop.of(self._loop)

    @property
    def condition(self) -> threading.Condition:
        """Notified whenever a future completes."""
        return self._condition

    def add(self, future: Future[Any] | BaseActorFuture[Any]) -> None:
        """Watch one more future.

        Raises:
            TypeError: it is none.
        """
        self.update((future,))

    def update(self, futures: Iterable[Future[Any] | BaseActorFuture[Any]]) -> None:
        """Watch more futures.

        Raises:
            TypeError: one of them is none.
        """
        futures = list(futures)
        for future in futures:
            if not isinstance(future, Future) and not _is_of_actor(future):
                raise TypeError(f"Input must be a future, got {future!r}")
        done_at_once = [future for future in futures if future.__hash__ is None]  # an actor's, of one beside it
        futures = [future for future in futures if future.__hash__ is not None]
        with self.lock:
            for future in futures:
                self.futures[future] += 1
            generation = self._generation
            for future in done_at_once:
                self.queue.put((future, (future.result(), None)))
            if done_at_once:
                self._condition.notify_all()
        for future in futures:
            if isinstance(future, Future):
                self._watch(future, generation)
            else:
                self._watch_call(future, generation)

    def _watch(self, future: Future[Any], generation: int) -> None:
        client, state = future.client, future._bound()

        def done(state: FutureState) -> None:
            if self.with_results and state.status == "finished" and state.result is None:
                client.loop.add_callback(self._fetch, future, generation)
            else:
                self._complete(future, generation, None)

        if not client.held.add_waiter(state, done):
            done(state)

    def _watch_call(self, future: Any, generation: int) -> None:
        def done(call: ConcurrentFuture[Any]) -> None:
            error = call.exception()
            self._complete(future, generation, (None if error else call.result(), error))

        future._future.add_done_callback(done)

    async def _fetch(self, future: Future[Any], generation: int) -> None:
        result: tuple[Any, BaseException | None]
        try:
            result = (await future.client._result_async(future, None), None)
        except BaseException as error:
            result = (None, error)
        self._complete(future, generation, result)

    def _complete(self, future: Any, generation: int, result: tuple[Any, BaseException | None] | None) -> None:
        with self.lock:
            if generation != self._generation or not self.futures.get(future):
                return  # cleared meanwhile
            self.futures[future] -= 1
            if not self.futures[future]:
                del self.futures[future]
            self.queue.put((future, result))
            self._condition.notify()
            sleepers, self._sleepers = self._sleepers, []
        for loop, sleeper in sleepers:
            loop.call_soon_threadsafe(_wake, sleeper)

    def is_empty(self) -> bool:
        """Whether nothing is left to come."""
        return self.count() == 0

    def has_ready(self) -> bool:
        """Whether a completed future can be had at once."""
        return not self.queue.empty()

    def count(self) -> int:
        """The number of futures that are still to be yielded."""
        with self.lock:
            return sum(self.futures.values()) + self.queue.qsize()

    def clear(self) -> None:
        """Forget all futures, completed ones included."""
        with self.lock:
            self._generation += 1
            self.futures.clear()
            while not self.queue.empty():
                self.queue.get()
            self._condition.notify_all()
            sleepers, self._sleepers = self._sleepers, []
        for loop, sleeper in sleepers:
            loop.call_soon_threadsafe(_wake, sleeper)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while True:
            with self._condition:
                while self.queue.empty():
                    if not self.futures:
                        raise StopIteration
                    left = self._left()
                    if left == 0:
                        raise self._timed_out()
                    self._condition.wait(LOOK if left is None else min(left, LOOK))
                try:
                    item = self.queue.get_nowait()
                except Empty:
                    continue  # `abort`s of others take from the queue, too
            return self._finish(item)

    def next(self) -> Any:
        """The next completed future (or pair); waits for it."""
        return self.__next__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        item = await self._next_item()
        if item is None:
            raise StopAsyncIteration
        return self._finish(item)

    async def _next_item(self) -> Any:
        loop = asyncio.get_running_loop()
        while True:
            with self.lock:
                if not self.queue.empty():
                    return self.queue.get_nowait()
                if not self.futures:
                    return None
                sleeper = loop.create_future()
                self._sleepers.append((loop, sleeper))
            try:
                async with asyncio.timeout(self._left()):
                    await sleeper
            except TimeoutError:
                raise self._timed_out() from None

    def next_batch(self, block: bool = True) -> list[Any]:
        """All futures (or pairs) that are complete.

        Args:
            block: wait for one if there is none.
        """
        batch = [next(self)] if block and not self.is_empty() else []
        while True:
            try:
                item = self.queue.get_nowait()
            except Empty:
                return batch
            batch.append(self._finish(item))

    def batches(self) -> Iterator[list[Any]]:
        """Iterate over what is complete, as much at a time as there is."""
        while True:
            try:
                yield self.next_batch(block=True) if not self.is_empty() else _stop()
            except StopIteration:
                return

    def _finish(self, item: tuple[Any, Any]) -> Any:
        """The item to yield for a completed future."""
        future, fetched = item
        if not self.with_results:
            return future
        if fetched is not None:
            value, error = fetched
            if error is None:
                return future, value
        else:
            state = future._bound()
            if state.status == "finished" and state.result is not None:
                return future, load_result(state, future.client)
            error = load_error(state)
        if self.raise_errors and not isinstance(error, FutureCancelledError):
            try:
                raise error
            finally:
                del error, fetched, item  # the traceback has this frame: the error must not be in it
        if isinstance(error, FutureCancelledError):
            return future, error
        return future, (type(error), error, error.__traceback__)

    def _left(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0)

    def _timed_out(self) -> TimeoutError:
        return timed_out(self._timeout)


def _is_of_actor(future: object) -> bool:
    module = sys.modules.get("headrace.actor")  # not loaded where no actor was ever made
    return module is not None and isinstance(future, module.BaseActorFuture)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _stop() -> Any:
    raise StopIteration
