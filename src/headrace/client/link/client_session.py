"""A client's side of the conversation with the scheduler: connection, outbox, and the threads that wait.

Any thread may post messages or wait; one lock guards the state, and the loop is woken once for many messages. Futures
are released from `__del__`, where no lock may be taken: these go through a deque that the loop, or the next submission,
drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from headrace.client.errors import ClosedClientError
from headrace.client.in_task import acquire
from headrace.client.state import ClientState, FutureState
from headrace.comm import Comm, connect
from headrace.common.keys import Key
from headrace.containment import log_raised
from headrace.exceptions import CommClosedError, UnknownOperationError
from headrace.messages.client import (
    ClientEvent,
    ClientHeartbeat,
    CloseClient,
    DesireKeys,
    ReleaseKeys,
)
from headrace.messages.client import ToClient as Incoming
from headrace.rpc import ConnectionPool, IOLoop, PatientCalls, PeriodicCallback, PooledRPCCall, Stream, remote_exception

from .delivery import Delivery

logger = logging.getLogger("distributed.client")

#: Seconds for which released keys are collected before the scheduler hears of them.
RELEASE_DELAY = 0.02
#: Keys in a message that releases them: the scheduler lets others have their turn only between messages.
RELEASED_AT_ONCE = 500
#: Seconds to wait for the scheduler to close its end.
CLOSE_TIMEOUT = 2
#: Seconds between two attempts to connect again, at first and at most.
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 2.0

_barriers = itertools.count()


def release_messages(keys: list[Key]) -> list[ReleaseKeys]:
    """What tells the scheduler that the client no longer wants these."""
    return [ReleaseKeys(keys[start : start + RELEASED_AT_ONCE]) for start in range(0, len(keys), RELEASED_AT_ONCE)]


class Countdown:
    """Counts states that become done, and wakes whoever waits once enough are.

    Args:
        remaining: how many must be done.
        wake: called (on the loop's thread) when they are.
        error_stops: whether one that is erred or cancelled is enough.
    """

    __slots__ = ("error_stops", "remaining", "wake")

    def __init__(self, remaining: int, wake: Callable[[], Any], error_stops: bool) -> None:
        self.remaining = remaining
        self.wake = wake
        self.error_stops = error_stops

    def __call__(self, state: FutureState) -> None:
        self.remaining -= 1
        if not self.remaining or (self.error_stops and state.status != "finished"):
            self.wake()


class Session:
    """One client's connection.

    Attributes:
        id: the client's name for the scheduler; the same after a reconnection.
        state: what is known about the client's keys; only with `lock` held.
        status: "connecting", "running", "closing" or "closed".
        address: where the scheduler is reached.
        told_address: where others reach it, who may be in other processes.
        in_process: whether the scheduler is in this process, so that objects can be handed over.
        scheduler: proxy for requests to the scheduler.
        pool: connections to scheduler and workers; `calls` for requests to those that may have stopped.
    """

    def __init__(self, id: str, on_event: Callable[[ClientEvent], None]) -> None:
        self.id = id
        self.state = ClientState()
        self.lock = threading.Lock()
        self.status = "connecting"
        self.address = self.told_address = ""
        self.in_process = False
        self.scheduler_id: Any = None
        #: what the scheduler said last of itself
        self.identity: dict[str, Any] = {}
        self.pool = ConnectionPool()
        self.calls = PatientCalls(self.pool)
        self.scheduler: PooledRPCCall | None = None
        self.stream: Stream | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.closed_text = "Client is closed: it cannot send anything to the scheduler any more."
        self._on_event = on_event
        self._outbox: deque[Any] = deque()
        self._delivery = Delivery()
        self._under_way: list[set[Any]] = []
        self._connections = 0
        self._lost_since: float | None = None
        self._scheduled = False
        self._released: deque[FutureState] = deque()
        self._release_scheduled = False
        self.connection_args: dict[str, Any] = {}
        self._versions: dict[str, Any] = {}
        self._timeout: float | None = None
        self._heartbeat: PeriodicCallback | None = None
        self._stream_ended: asyncio.Event | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ any thread

    def attach(self, loop: IOLoop) -> None:
        """Tell which loop this session lives on; from then on messages may be posted."""
        self.loop = loop.asyncio_loop

    def check_open(self) -> None:
        """Raise `ClosedClientError` when nothing can be sent any more."""
        if self.status in ("closing", "closed"):
            raise ClosedClientError(self.closed_text)

    def same_scheduler(self, other: Session) -> bool:
        """Whether another session is with the same scheduler, which may have several addresses."""
        if self.scheduler_id is not None and other.scheduler_id is not None:
            return bool(self.scheduler_id == other.scheduler_id)
        return self.address == other.address

    def post(self, message: Any) -> None:
        """Send a message soon; from any thread, in order.

        Raises:
            ClosedClientError: the client is closed.
        """
        self.check_open()
        self._outbox.append(message)
        if not self._scheduled:
            self._wake_loop()

    def _wake_loop(self) -> None:
        assert self.loop is not None
        self._scheduled = True
        if asyncio._get_running_loop() is self.loop:
            self.loop.call_soon(self._flush)
            return
        try:
            self.loop.call_soon_threadsafe(self._flush)
        except RuntimeError as error:
            raise ClosedClientError("Client is closed: its event loop is.") from error

    def release_later(self, state: FutureState) -> None:
        """One future less. Safe in a finalizer: takes no lock, raises nothing."""
        self._released.append(state)
        if not self._release_scheduled:
            self._release_scheduled = True
            try:
                self.loop.call_soon_threadsafe(self._arm_release)  # type: ignore[union-attr]
            except Exception:
                return  # the loop is gone, and with it all interest

    def drain_released(self) -> None:
        """Let go of what finalizers released. With the lock held."""
        released = self._released
        states = []
        while released:
            states.append(released.popleft())
        keys = self.state.release(states)
        if keys and self.status in ("running", "connecting"):
            self._outbox += release_messages(keys)

    def release_now(self, states: Iterable[FutureState]) -> None:
        """One future less of each of these, before anything that is posted later."""
        with self.lock:
            self._released.extend(states)
            self.drain_released()
        if self._outbox and not self._scheduled and self.status in ("running", "connecting"):
            self._wake_loop()

    def want(self, key: Any) -> FutureState:
        """One more future of a key that the scheduler should know."""
        self.check_open()
        with self.lock:
            if self._released:
                self.drain_released()
            state, new = self.state.want(key)
            if new:
                self.post(DesireKeys([key]))
        return state

    def renew(self, states: Iterable[FutureState]) -> list[FutureState]:
        """The records to make futures of, now that the data of these are on workers, as the scheduler knows."""
        with self.lock:
            found = [self.state.renew(state) for state in states]
            wanted = [state.key for state, again in found if again]
            if wanted:
                self.post(DesireKeys(wanted))
        return [state for state, _ in found]

    def submit(self, key: Any, message: Any) -> FutureState:
        """One more future of a key; `message` submits it, and is sent when it is the first."""
        self.check_open()
        with self.lock:
            if self._released:
                self.drain_released()
            state, new = self.state.want(key)
            if new:
                self.post(message)
        return state

    def want_all(self, keys: Iterable[Any], drain: bool = True) -> tuple[list[FutureState], set[int]]:
        """One more future of each key; the positions of those that we had already. The caller submits the others.

        Args:
            drain: let go of what was released before; without, a key that was released just now is kept instead.
        """
        self.check_open()
        with self.lock:
            if self._released and drain:
                self.drain_released()
            return self.state.want_all(keys)

    @contextlib.contextmanager
    def submitting(self, keys: Iterable[Any]) -> Iterator[None]:
        """Around `want_all` and the sending of what it did not know: meanwhile nobody else asks for these keys."""
        mine = set(keys)
        with self.lock:
            self._under_way.append(mine)
            connections = self._connections
        try:
            yield
        finally:
            with self.lock:
                self._under_way.remove(mine)
                if connections != self._connections:
                    self._desire(key for key in mine if key in self.state.futures)

    def _desire_all(self) -> None:
        """Ask how our keys stand: what was said while the connection was broken is lost. With the lock held."""
        self._connections += 1
        others = set().union(*self._under_way)
        self._desire(key for key in self.state.lose_all() if key not in others)

    def _desire(self, keys: Iterable[Any]) -> None:
        wanted = list(keys)
        if wanted and self.status in ("running", "connecting"):
            self.post(DesireKeys(wanted))

    def wait(
        self,
        states: Sequence[FutureState],
        timeout: float | None = None,
        error_stops: bool = False,
        count: int | None = None,
    ) -> bool:
        """Block this thread until the states are done; `False` when the time is over first.

        Args:
            timeout: seconds.
            error_stops: return as soon as one is erred or cancelled.
            count: return as soon as so many of them are done.
        """
        gate = threading.Lock()
        gate.acquire()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # open already: several states may wake us
                gate.release()

        countdown = self._register(states, wake, error_stops, count)
        if countdown is None:
            return True
        try:
            if acquire(gate, timeout):
                return True
        except BaseException:
            self._unregister(states, countdown)
            raise
        self._unregister(states, countdown)
        return False

    def _register(
        self, states: Sequence[FutureState], wake: Callable[[], Any], error_stops: bool, count: int | None
    ) -> Countdown | None:
        """Put a countdown on the states that are not done; `None` when there is nothing to wait for."""
        with self.lock:
            if self._released:
                self.drain_released()
            pending = [state for state in states if state.status == "pending" or state.status == "lost"]
            if not pending:
                return None
            done = len(states) - len(pending)
            remaining = len(pending) if count is None else count - done
            if remaining <= 0:
                return None
            if error_stops and done and any(state.status in ("error", "cancelled") for state in states):
                return None
            countdown = Countdown(remaining, wake, error_stops)
            for state in pending:
                if state.waiters is None:
                    state.waiters = [countdown]
                else:
                    state.waiters.append(countdown)
        return countdown

    def _unregister(self, states: Sequence[FutureState], countdown: Countdown) -> None:
        with self.lock:
            for state in states:
                self.state.remove_waiter(state, countdown)

    async def wait_async(
        self,
        states: Sequence[FutureState],
        timeout: float | None = None,
        error_stops: bool = False,
        count: int | None = None,
    ) -> bool:
        """As `wait`, awaited on any loop."""
        loop = asyncio.get_running_loop()
        gate = loop.create_future()

        def open_gate() -> None:
            if not gate.done():
                gate.set_result(None)

        wake = open_gate if loop is self.loop else lambda: loop.call_soon_threadsafe(open_gate)
        countdown = self._register(states, wake, error_stops, count)
        if countdown is None:
            return True
        try:
            if timeout is None:
                await gate
            else:
                async with asyncio.timeout(timeout):
                    await gate
        except BaseException as error:
            self._unregister(states, countdown)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def hold_until_done(self, keys: Iterable[Any]) -> None:
        """Keep these wanted until they are done, also when their futures go."""
        with self.lock:
            for key in keys:
                state = self.state.futures.get(key)
                if state is not None and self.state.add_waiter(state, self.release_later):
                    state.references += 1

    def disown(self) -> None:
        """This process was forked from the one whose session this is: forget all without touching what both share."""
        self.lock = threading.Lock()  # the old one may have been held, and its holder is not here
        self.status = "closed"
        self.closed_text = "this client is that of the process from which this one was forked: make a new Client here"
        self.state.cancel_pending("it belongs to a client of the process from which this one was forked")
        self.state.take_woken()
        self._released.clear()

    def give_up(self, text: str) -> None:
        """There was no connection, and will be none."""
        if self.status not in ("closing", "closed"):
            self.closed_text = text
            self._end("client-not-connected", text)

    def abort(self) -> None:
        """Leave without waiting; on the loop's thread."""
        if self.status not in ("closing", "closed"):
            stream, self.stream = self.stream, None
            if stream is not None and self.loop is not None:
                stream.send(CloseClient())  # or the scheduler would expect us back
                self._leaving = self.loop.create_task(stream.close())
            self._end("client-closed")
            for task in (self._reconnecting,):
                if task is not None:
                    task.cancel()

    async def barrier(self) -> None:
        """Wait until the scheduler has handled what was posted: requests go other ways than the stream, and faster."""
        key = f"barrier-{self.id}-{next(_barriers)}"
        state = self.want(key)  # which it does not know, and says so
        await self.wait_async([state])
        self.release_later(state)

    def add_waiter(self, state: FutureState, waiter: Callable[[FutureState], Any]) -> bool:
        """Have `waiter(state)` called on the loop's thread; `False` (and no call) when it is done already."""
        with self.lock:
            return self.state.add_waiter(state, waiter)

    def cancel_pending(self, reason: str, message: str | None = None) -> None:
        """What is not done never will be; wakes whoever waits."""
        with self.lock:
            self.state.cancel_pending(reason, message)
        self.notify()

    def notify(self) -> None:
        """Call the waiters of what became done, without the lock: they may call back."""
        with self.lock:
            woken = self.state.take_woken()
        for waiters, state in woken:
            for waiter in waiters:
                try:
                    waiter(state)
                except BaseException as raised:
                    log_raised(logger, raised, "A callback on %r failed", state)

    # ------------------------------------------------------------------ the loop's thread

    async def start(
        self,
        address: str,
        timeout: float | None,
        connection_args: dict[str, Any],
        versions: dict[str, Any],
        heartbeat: float,
        connection_limit: int = 512,
    ) -> None:
        """Connect and register.

        Raises:
            OSError: no connection within `timeout` seconds; names the address.
        """
        self.loop = asyncio.get_running_loop()
        self.connection_args, self._versions, self._timeout = connection_args, versions, timeout
        self.pool = ConnectionPool(limit=connection_limit, connection_args=connection_args)
        self.calls = PatientCalls(self.pool)
        self.address = address
        self.in_process = address.startswith("inproc://")
        await self._open()
        self._heartbeat = PeriodicCallback(self._send_heartbeat, heartbeat * 1000)
        self._heartbeat.start()

    async def _open(self, returning: bool = False) -> None:
        loop = asyncio.get_running_loop()
        deadline = None if self._timeout is None else loop.time() + self._timeout
        comm = await connect(self.address, timeout=self._timeout, **self.connection_args)
        try:
            async with asyncio.timeout_at(deadline):
                received = await self._register_client(comm, returning)
        except BaseException:
            comm.abort()
            raise
        self.scheduler = self.pool.rpc(self.address)
        self.scheduler.address = self.told_address = self.told_address or self.address
        self._stream_ended = ended = asyncio.Event()

        def on_close(error: Exception | None) -> None:
            ended.set()
            if self.stream is stream:
                self._on_close(error)

        self.stream = stream = Stream(comm, Incoming, self._on_batch, on_close, self._on_unsendable)
        self.status = "running"
        again = self._delivery.resume(received)
        if returning:
            with self.lock:
                self.state.cancellations_sent([*again, *self._outbox])
            stream.send_all(again)
        self._flush()

    async def _register_client(self, comm: Comm, returning: bool) -> int | None:
        """Returns how many of our messages have come, if the scheduler knows us."""
        comm.name = "Client->Scheduler"
        request = {"op": "register-client", "reply": True, "client": self.id, "versions": self._versions}
        await comm.write({**request, "returning": returning})
        reply = await comm.read()
        if isinstance(reply, dict) and reply.get("status") == "uncaught-error":
            problem = remote_exception(reply)
            if isinstance(problem, UnknownOperationError):
                raise CommClosedError(f"{self.address} is no scheduler's address: {problem}")
            raise problem
        if not isinstance(reply, dict) or reply.get("status") != "OK":
            said = reply.get("message") if isinstance(reply, dict) else reply
            raise CommClosedError(f"the scheduler at {self.address} did not accept this client: {said}")
        self.scheduler_id = reply.get("id")
        self.identity = reply.get("identity") or {}
        return reply.get("received")

    def _flush(self) -> None:
        self._scheduled = False
        if self._released:
            with self.lock:
                self.drain_released()
        outbox, stream = self._outbox, self.stream
        if stream is None or not outbox:
            return
        messages = []
        while outbox:
            messages.append(outbox.popleft())
        self._delivery.sent(messages)
        stream.send_all(messages)
        stream.flush()

    def _arm_release(self) -> None:
        assert self.loop is not None
        self.loop.call_later(RELEASE_DELAY, self._flush_released)

    def _flush_released(self) -> None:
        self._release_scheduled = False
        self._flush()

    def _send_heartbeat(self) -> None:
        if self.stream is not None and not self._outbox:
            self._outbox.append(ClientHeartbeat())
            self._flush()

    def _on_batch(self, batch: list[Any]) -> None:
        state = self.state
        self._lost_since = None
        with self.lock:
            state.handle(batch)
            woken = state.take_woken()
            events = state.take_events() if state.events else ()
            if state.dropped and self.status in ("running", "connecting"):
                for message in release_messages(state.take_dropped()):
                    self.post(message)
        if state.received:
            self._delivery.confirm(state.received)
            state.received = 0
        for waiters, done in woken:
            for waiter in waiters:
                try:
                    waiter(done)
                except BaseException as raised:
                    log_raised(logger, raised, "A callback on %r failed", done)
        for event in events:
            self._on_event(event)
        if state.closing is not None and self.status == "running":
            self._end(state.closing)

    def _on_unsendable(self, message: Any, error: Exception) -> bool:
        """A message cannot be encoded: whoever waits for what it asks for must not wait for ever."""
        keys = list(getattr(message, "keys", ()))
        self._delivery.not_sent(message)
        with self.lock:
            self.state.cancel_unsent(keys, f"it could not be sent to the scheduler: {error}")
        self.notify()
        return True

    def _on_close(self, error: Exception | None) -> None:
        self.stream = None
        if self.status == "running":
            self.status = "connecting"
            assert self.loop is not None
            self._reconnecting = self.loop.create_task(self._reconnect(error))

    async def _reconnect(self, error: Exception | None) -> None:
        """Connect again until the time for it is over; then nothing that is pending will ever be done."""
        assert self.loop is not None
        seconds = 30.0 if self._timeout is None else self._timeout
        if self._lost_since is None:
            self._lost_since = self.loop.time()
        else:  # nothing came over the last connection: what we send may be what breaks it
            await asyncio.sleep(FIRST_PAUSE)
        logger.info(
            "The connection to the scheduler at %s is lost (%s); connecting again",
            self.address,
            error or "its end is closed",
        )
        pause = FIRST_PAUSE
        problem: Exception | None = error
        try:
            async with asyncio.timeout_at(self._lost_since + seconds):
                while self.status == "connecting":
                    try:
                        await self._open(returning=True)
                    except OSError as failure:
                        problem = failure
                        await asyncio.sleep(pause)
                        pause = min(2 * pause, LONGEST_PAUSE)
        except Exception as failure:
            if self.status == "connecting":
                cause = (problem or "nothing answers there") if isinstance(failure, TimeoutError) else failure
                text = f"it could not be reached again within {seconds:g} s ({cause})"
                logger.warning("The scheduler at %s is gone: %s", self.address, text)
                self.closed_text = f"Client is closed: the connection to {self.address} broke, and {text}."
                self._end("scheduler-connection-lost", f"The connection to {self.address} broke, and {text}.")
            return
        if self.status == "running":
            logger.info("Connected to the scheduler at %s again", self.address)
            with self.lock:
                self._desire_all()

    async def reconnected(self) -> bool:
        """Wait until the connection, if it broke, is there again, or given up; returns whether it is there."""
        await asyncio.sleep(0)  # the stream may have broken with the same network, and not be seen yet
        if self._reconnecting is not None:
            await asyncio.wait([self._reconnecting])
        return self.status == "running"

    def _end(self, reason: str, message: str | None = None) -> None:
        """The scheduler is gone for good."""
        self.status = "closed"
        if self._heartbeat is not None:
            self._heartbeat.stop()
        if self.stream is not None:
            self.stream.abort()
            self.stream = None
        self.cancel_pending(reason, message)

    async def close(self) -> None:
        """Leave: everything is released, requests under way fail."""
        running = self.status == "running"
        self.status = "closing"
        if self._heartbeat is not None:
            self._heartbeat.stop()
        if self._reconnecting is not None and not self._reconnecting.done():
            self._reconnecting.cancel()
        stream = self.stream
        if running and stream is not None:
            self._flush()
            stream.send(CloseClient())
            stream.flush()
            assert self._stream_ended is not None
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._stream_ended.wait()
            except TimeoutError:
                logger.debug("The scheduler at %s did not close the stream", self.address)
            await stream.close()
        self.stream = None
        self.status = "closed"
        self.cancel_pending("client-closed")
        await self.pool.close()
