"""The keys that a client holds, for all of its threads: futures come and go, threads wait, the scheduler's news arrive.

One lock guards the records (`ClientCore`). Futures that are let go are collected without it, until the loop or the next
submission releases their keys. Nothing here connects or reads: messages leave by the outbox, and the session hands over
those of the scheduler, on the loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from headrace.client.state import ClientCore, FutureState
from headrace.client.state.countdown import Countdown
from headrace.client.state.futures import Waiter
from headrace.client.waiting_in_tasks import acquire
from headrace.common.keys import Key
from headrace.containment import log_raised
from headrace.messages import FromClient, ToClient
from headrace.messages.base import HandlerMessage
from headrace.messages.client import CancelKeys, ClientEvent, DesireKeys, ReleaseKeys

from .outbox import ClientOutbox
from .released_futures import ReleasedFutures

logger = logging.getLogger("distributed.client")

#: Keys in a message that releases them: the scheduler lets others have their turn only between messages.
RELEASED_AT_ONCE = 500

_barriers = itertools.count()


def release_messages(keys: list[Key]) -> list[ReleaseKeys]:
    """Messages that tell the scheduler that the client no longer wants these keys."""
    return [ReleaseKeys(keys[start : start + RELEASED_AT_ONCE]) for start in range(0, len(keys), RELEASED_AT_ONCE)]


class HeldKeys:
    """Records of one client's keys, shared by its threads.

    Args:
        client: the client's name for the scheduler.
        outbox: takes what the scheduler must hear of the keys.

    Attributes:
        core: the records; only with `lock` held.
        release_later: one future less, of the record given. Safe in a finalizer: takes no lock, raises nothing.
    """

    def __init__(self, client: str, outbox: ClientOutbox) -> None:
        self.core = ClientCore()
        self.lock = threading.Lock()
        self._client = client
        self._outbox = outbox
        #: sets of keys that a thread is submitting just now, see `submitting`
        self._under_way: list[set[Key]] = []
        self._connections = 0
        self._released = ReleasedFutures(outbox, self.release_now)
        self.release_later = self._released.add

    # ------------------------------------------------------------------ futures come

    def submit(self, key: Key, message: FromClient) -> FutureState:
        """One more future of a key; `message` tells the scheduler of it, and is sent when it is the first."""
        self._outbox.check_open()
        with self.lock:
            if self._released.states:
                self._drain_released()
            state, new = self.core.want(key)
            if new:
                self._outbox.post(message)
        return state

    def want(self, key: Key) -> FutureState:
        """One more future of a key that the scheduler should know."""
        return self.submit(key, DesireKeys([key]))

    def want_all(
        self,
        keys: Iterable[Key],
        drain: bool = True,
        message_without: Callable[[set[int]], FromClient | None] | None = None,
    ) -> tuple[list[FutureState], set[int]]:
        """One more future of each key; the positions of those that we had already. The others are to be submitted.

        Args:
            drain: let go of what was released before; without, a key that was released just now is kept instead.
            message_without: makes the message that submits all but those positions; None if nothing is left. Without
                it the caller submits them, within `submitting`.
        """
        self._outbox.check_open()
        with self.lock:
            if drain and self._released.states:
                self._drain_released()
            states, known = self.core.want_all(keys)
            message = message_without(known) if message_without is not None else None
            if message is not None:
                self._outbox.post(message)
        return states, known

    @contextlib.contextmanager
    def submitting(self, keys: Iterable[Key]) -> Iterator[None]:
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
                    self._desire(key for key in mine if key in self.core.futures)

    def renew(self, states: Iterable[FutureState]) -> list[FutureState]:
        """The records to make futures of, now that the data of these are on workers, as the scheduler knows."""
        with self.lock:
            found = [self.core.renew(state) for state in states]
            wanted = [state.key for state, again in found if again]
            if wanted:
                self._outbox.post(DesireKeys(wanted))
        return [state for state, _ in found]

    def finish(self, types: Mapping[Key, str], states: Iterable[FutureState]) -> None:
        """Call records finished whose data this client has put on workers itself; `types` names the data's types."""
        with self.lock:
            for state in states:
                self.core.finish(state, types[state.key])
        self.notify()

    def hold_until_done(self, keys: Iterable[Key]) -> None:
        """Keep these wanted until they are done, also when their futures go."""
        with self.lock:
            for key in keys:
                state = self.core.futures.get(key)
                if state is not None and self.core.add_waiter(state, self.release_later):
                    state.references += 1

    def ask_again(self) -> None:
        """Ask how our keys stand, over a new connection: what was said while there was none is lost."""
        with self.lock:
            self._connections += 1
            others = set().union(*self._under_way)
            self._desire(key for key in self.core.lose_all() if key not in others)

    def cancellations_sent(self, messages: Iterable[FromClient]) -> None:
        """A new connection begins with these: of earlier cancellations nobody will confirm any other."""
        with self.lock:
            self.core.cancellations_sent(messages)

    def _desire(self, keys: Iterable[Key]) -> None:
        wanted = list(keys)
        if wanted and self._outbox.is_open:
            self._outbox.post(DesireKeys(wanted))

    # ------------------------------------------------------------------ futures go

    def release_now(self, states: Iterable[FutureState] = ()) -> None:
        """One future less of each of these, before anything that is posted later."""
        with self.lock:
            self._released.extend(states)
            self._drain_released()
        if self._outbox.is_open:
            self._outbox.wake()

    def drain(self) -> None:
        """Let go of what finalizers released; the messages leave with the next flush."""
        if self._released.states:
            with self.lock:
                self._drain_released()

    def _drain_released(self) -> None:
        keys = self.core.release(self._released.take())
        if keys and self._outbox.is_open:
            self._outbox.put(release_messages(keys))

    def cancel(self, keys: Iterable[Key], force: bool, reason: str | None, text: str | None, running: bool) -> None:
        """The user calls off tasks: their futures are cancelled at once, and the scheduler hears of it."""
        with self.lock:
            held = self.core.cancel(keys, reason or "unknown", text)
            if held:
                self._outbox.post(CancelKeys(held, force, reason or "unknown", running))
        self.notify()

    def forget(self, states: Iterable[FutureState]) -> None:
        """The submission of these failed here: their futures are cancelled."""
        with self.lock:
            self.core.forget(states)

    def cancel_unsent(self, keys: Iterable[Key], reason: str, message: str | None = None) -> None:
        """The message that names these cannot be sent, or need not be: whoever waits for them must not do so for ever.

        Args:
            message: what else there is to say about it.
        """
        with self.lock:
            self.core.cancel_unsent(keys, reason, message)
        self.notify()

    def cancel_pending(self, reason: str, message: str | None = None) -> None:
        """Cancel what is not done, since it never will be; wakes whoever waits."""
        with self.lock:
            self.core.cancel_pending(reason, message)
        self.notify()

    def cancel_all(self, reason: str) -> None:
        """Cancel all, since the client has left and the scheduler lets go of it; wakes whoever waits."""
        with self.lock:
            self.core.cancel_all(reason)
        self.notify()

    def disown(self, reason: str) -> None:
        """Forget all, in a process forked from the client's, without touching what both share."""
        self.lock = threading.Lock()  # the old one may have been held, and its holder is not here
        self.core.cancel_pending(reason)
        self.core.take_woken()
        self._released.clear()

    # ------------------------------------------------------------------ waiting

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

        countdown = self._count_down(states, wake, error_stops, count)
        if countdown is None:
            return True
        try:
            if acquire(gate, timeout):
                return True
        except BaseException:
            self._stop_waiting(states, countdown)
            raise
        self._stop_waiting(states, countdown)
        return False

    async def wait_async(
        self,
        states: Sequence[FutureState],
        timeout: float | None = None,
        error_stops: bool = False,
        count: int | None = None,
    ) -> bool:
        """`wait`, to be awaited, on any loop."""
        loop = asyncio.get_running_loop()
        gate = loop.create_future()

        def open_gate() -> None:
            if not gate.done():
                gate.set_result(None)

        here = loop is self._outbox.loop
        wake = open_gate if here else lambda: loop.call_soon_threadsafe(open_gate)
        countdown = self._count_down(states, wake, error_stops, count)
        if countdown is None:
            return True
        try:
            if timeout is None:
                await gate
            else:
                async with asyncio.timeout(timeout):
                    await gate
        except BaseException as error:
            self._stop_waiting(states, countdown)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def _count_down(
        self, states: Sequence[FutureState], wake: Callable[[], object], error_stops: bool, count: int | None
    ) -> Countdown | None:
        with self.lock:
            if self._released.states:
                self._drain_released()
            return self.core.count_down(states, wake, error_stops, count)

    def _stop_waiting(self, states: Sequence[FutureState], countdown: Countdown) -> None:
        with self.lock:
            for state in states:
                self.core.remove_waiter(state, countdown)

    def add_waiter(self, state: FutureState, waiter: Waiter) -> bool:
        """Have `waiter(state)` called on the loop's thread; `False` (and no call) when it is done already."""
        with self.lock:
            return self.core.add_waiter(state, waiter)

    async def barrier(self) -> None:
        """Wait until the scheduler has handled what was posted: requests go other ways than the stream, and faster."""
        state = self.want(f"barrier-{self._client}-{next(_barriers)}")  # which it does not know, and says so
        await self.wait_async([state])
        self.release_later(state)

    # ------------------------------------------------------------------ news from the scheduler

    def handle(self, batch: Iterable[ToClient]) -> Sequence[ClientEvent | HandlerMessage]:
        """Take in what the scheduler sent, and wake whoever waited for it. On the loop's thread.

        Returns:
            Events among it.

        Raises:
            UnknownMessage: a message is of no known class. Those before it count; `notify` wakes who waited for them.
        """
        core = self.core
        with self.lock:
            handle = core.handle
            for message in batch:
                handle(message)
            woken = core.take_woken()
            events = core.take_events() if core.events else ()
            if core.dropped and self._outbox.is_open:
                for release in release_messages(core.take_dropped()):
                    self._outbox.post(release)
        _call_waiters(woken)
        return events

    def notify(self) -> None:
        """Wake whoever waited for what became done."""
        with self.lock:
            woken = self.core.take_woken()
        _call_waiters(woken)


def _call_waiters(woken: Iterable[tuple[list[Waiter], FutureState]]) -> None:
    """Call waiters without the lock: they may call back."""
    for waiters, state in woken:
        for waiter in waiters:
            try:
                waiter(state)
            except BaseException as raised:
                log_raised(logger, raised, "A callback on %r failed", state)
