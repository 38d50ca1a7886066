"""`ClientBase`: the parts of a client that all groups of methods need, for them to inherit from."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.containment import log_raised
from headrace.exceptions import CommClosedError
from headrace.rpc import ConnectionPool, IOLoop, Stream
from headrace.rpc.loops.sync_methods import SyncMethodMixin

from ..errors import ClosedClientError
from ..link.client_session import ClientSession
from ..link.fetch_lanes import Lanes
from ..link.held_keys import HeldKeys
from ..link.latest_info import LatestInfo
from ..link.lost_results import Losses
from ..link.outbox import ClientOutbox

if TYPE_CHECKING:
    from ..client import Client
    from ..future import Future
    from ..packing.serializer_families import ChosenFamilies

no_default: Any = type("no_default", (), {"__repr__": lambda self: "<no_default>"})()

#: How often what may be repeated is asked again when its connection breaks.
ASK_AGAIN = 2


class ClientBase(SyncMethodMixin):
    """State that all groups of methods share."""

    session: ClientSession
    held: HeldKeys
    outbox: ClientOutbox
    _losses: Losses
    _lanes: Lanes
    _latest_info: LatestInfo
    id: str
    cluster: Any
    scheduler_file: str | None
    direct_to_workers: bool | None
    _asynchronous: bool
    _source_frames: int
    _families: ChosenFamilies | None = None
    _timeout: float
    _io_loop: IOLoop | None
    _callback_thread: _CallbackThread | None = None
    _starting: asyncio.Task[Any] | None = None
    _questions: set[asyncio.Task[Any]]

    @property
    def _whole_client(self) -> Client:
        """The client with all groups of its methods, where one group needs another."""
        return self  # type: ignore[return-value]

    @property
    def loop(self) -> IOLoop:
        """The event loop that this client lives on."""
        if self._io_loop is None:
            raise ClosedClientError("this client has no event loop yet: await it, or use it with `async with`")
        return self._io_loop

    @property
    def asynchronous(self) -> bool:
        """Whether methods return awaitables here: on the client's loop, or before it runs if so constructed."""
        running = asyncio._get_running_loop()
        loop = self.session.loop
        if running is not None and running is loop:
            return True
        return self._asynchronous and (loop is None or not loop.is_running())

    @property
    def scheduler(self) -> Any:
        """Proxy for requests to the scheduler: `await client.scheduler.identity()`; `None` before the connection."""
        return self.session.scheduler

    @property
    def scheduler_id(self) -> Any:
        """The scheduler's own id; `None` before the connection."""
        return self.session.scheduler_id

    @property
    def scheduler_comm(self) -> Stream | None:
        """The stream of messages to the scheduler; `None` while there is none."""
        return self.session.stream

    @property
    def rpc(self) -> ConnectionPool:
        """Connections to the scheduler and the workers."""
        return self.session.pool

    @property
    def connection_args(self) -> dict[str, Any]:
        """Keywords with which this client connects: certificates for TLS, and what the transport takes beside them."""
        return self.session.connection_args

    def sync(
        self,
        func: Callable[..., Any],
        *args: object,
        asynchronous: bool | None = None,
        callback_timeout: float | str | None = None,
        **kwargs: object,
    ) -> Any:
        """Call a coroutine function on the client's loop: wait for its result, or return it as an awaitable.

        Args:
            asynchronous: return an awaitable; by default whether this is called on the loop.
            callback_timeout: seconds (or text such as "5s") to wait.
        """
        if asynchronous is None:
            asynchronous = self.asynchronous
        if not asynchronous and self.loop.asyncio_loop.is_closed():
            raise ClosedClientError("Client is closed: its event loop is.")
        return super().sync(func, *args, asynchronous=asynchronous, callback_timeout=callback_timeout, **kwargs)

    async def _call(self, op: str, **kwargs: object) -> Any:
        """Ask the scheduler; what it calls repeatable is asked again if the connection breaks meanwhile."""
        self.outbox.check_open()
        if self.session.scheduler is None and self._starting is not None:
            await self._starting
        if self.session.scheduler is None:
            raise ClosedClientError("this client is not connected to a scheduler: await it, or use `async with`")
        for _ in range(ASK_AGAIN if op in self.session.repeatable else 0):
            try:
                return await self.session.scheduler.call(op, **kwargs)
            except CommClosedError:  # cut off; nothing is done twice by asking once more
                if not await self.session.reconnected():
                    raise
        return await self.session.scheduler.call(op, **kwargs)

    def _ask(self, op: str, **kwargs: Any) -> Any:
        """Ask the scheduler, waiting or not as `sync` does."""
        return self.sync(self._call, op, **kwargs)

    def _ask_at_once(self, op: str, **kwargs: Any) -> Any:
        """`_ask`, of which the question is on its way even if nobody awaits the answer."""
        if asyncio._get_running_loop() is not self.session.loop or self.session.loop is None:
            return self._ask(op, **kwargs)
        asked = self.session.loop.create_task(self._call(op, **kwargs))
        self._questions.add(asked)
        asked.add_done_callback(self._questions.discard)
        return asked

    def ask_in_background(self, op: str, **kwargs: object) -> concurrent.futures.Future[Any]:
        """Ask the scheduler without waiting; the future that is returned is cancelled where nobody can be asked."""
        loop = self.session.loop
        question = self._call(op, **kwargs)
        try:
            if loop is None:
                raise RuntimeError("not connected")
            return asyncio.run_coroutine_threadsafe(question, loop)
        except RuntimeError:  # the loop is closed
            question.close()
            nobody: concurrent.futures.Future[Any] = concurrent.futures.Future()
            nobody.cancel()
            return nobody

    def _run_callback(self, function: Callable[[Future[Any]], Any], future: Future[Any]) -> None:
        """Run a done callback in the thread for these."""
        if self._callback_thread is None:
            self._callback_thread = _CallbackThread()
        self._callback_thread.run(function, future)


class _CallbackThread:
    """Runs callbacks one after the other, in a daemon thread that ends when there is nothing to do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[Callable[[Future[Any]], object], Future[Any]]] = []
        self._running = False

    def run(self, function: Callable[[Future[Any]], object], future: Future[Any]) -> None:
        """Call `function(future)` soon."""
        with self._lock:
            self._waiting.append((function, future))
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._work, name="headrace-callbacks", daemon=True).start()

    def _work(self) -> None:
        import logging

        while True:
            with self._lock:
                if not self._waiting:
                    self._running = False
                    return
                function, future = self._waiting.pop(0)
            try:
                function(future)
            except BaseException as raised:
                log_raised(logging.getLogger("distributed.client"), raised, "A done callback failed")
            del function, future
