"""Records of the keys that a client wants, and how each message from the scheduler changes them.

Theory of operation. A `FutureState` is shared by all `Future`s of one key; it lives in `ClientCore.futures` while any
of them does, and is forgotten (with a `ReleaseKeys`) when the last goes. A key that is cancelled leaves the table at
once, so that a later submission of the same key starts anew; the `Future`s that remain keep their cancelled record.
Whoever waits for a record leaves a callable on it; `handle` takes one message, and collects in `woken` the callables of
the records that it made done.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from headrace.common.keys import Key
from headrace.exceptions import UnknownMessage
from headrace.messages import FromClient, ToClient
from headrace.messages.base import HandlerMessage, Payload
from headrace.messages.client import (
    CancelKeys,
    CancelledKeys,
    ClientEvent,
    GraphRefused,
    KeyInMemory,
    LostData,
    MessagesReceived,
    Restarted,
    SchedulerClosing,
    TaskErred,
    TaskRetried,
)

from .countdown import Countdown

Waiter: TypeAlias = Callable[["FutureState"], object]

#: Statuses from which nothing happens by itself any more. The others are "pending" and "lost" (being computed again).
DONE = frozenset({"finished", "error", "cancelled"})


class FutureState(msgspec.Struct, eq=False, gc=False):
    """The record of one key; shared by all `Future`s of that key.

    Made by the thousand, and of no interest to the garbage collector: what could refer back are waiters, which are gone
    once it is done, and all are done once their client has closed.

    Attributes:
        key: the key as it travels.
        status: pending, finished, error, cancelled or lost.
        type: name of the result's type, once finished.
        result: the pickled result if it is small, else `None` (it is then on the workers).
        error: the message that told of the failure, with the pickled exception.
        reason, message: why it was cancelled.
        references: how many `Future`s there are.
        waiters: callables to be called once it is done; `None` when there are none.
    """

    key: Key
    status: str = "pending"
    references: int = 0
    type: str | None = None
    result: Payload = None
    error: TaskErred | None = None
    waiters: list[Waiter] | None = None
    reason: str | None = None
    message: str | None = None

    def __repr__(self) -> str:
        return f"<FutureState: {self.status} {self.key!r}>"

    def done(self) -> bool:
        """Whether it is finished, erred or cancelled."""
        return self.status in DONE

    def finish(self, type: str | None = None, result: Payload = None) -> None:
        """The task has a result."""
        self.status = "finished"
        self.error = None
        if type is not None:
            self.type = type
        if result is not None:
            self.result = result

    def set_error(self, error: TaskErred) -> None:
        """The task failed."""
        self.status = "error"
        self.result = None
        self.error = error

    @property
    def exception(self) -> Payload:
        """Why it failed, pickled; None if it has not."""
        return self.error.exception if self.error is not None else None

    @property
    def traceback(self) -> Payload:
        """Of the exception, pickled."""
        return self.error.traceback if self.error is not None else None

    def cancel(self, reason: str | None = None, msg: str | None = None) -> None:
        """The task will not be computed."""
        self.status = "cancelled"
        self.result = self.error = None
        self.reason = reason
        self.message = msg

    def reset(self, status: str = "pending") -> None:
        """The task is being computed (again)."""
        self.status = status
        self.result = self.error = None

    def lose(self) -> None:
        """The result is gone, and will be computed again."""
        self.reset("lost")

    def retry(self) -> None:
        """The task failed, and is being computed again."""
        self.reset()


class ClientCore:
    """All keys that a client holds.

    Attributes:
        futures: the records by key.
        woken: records that became done, with the waiters to call; the shell takes them after each batch.
        events: published events, likewise.
        received: how many of our messages the scheduler has confirmed, if it said so since that was last looked at.
        dropped: keys that the scheduler cancelled; the shell names them in `ReleaseKeys`, for what we sent before we
            heard of it may have asked for them anew.
        closing: why the scheduler is going away, once it said so.
    """

    def __init__(self) -> None:
        self.futures: dict[Key, FutureState] = {}
        self.woken: list[tuple[list[Waiter], FutureState]] = []
        self.events: list[ClientEvent | HandlerMessage] = []
        self.dropped: list[Key] = []
        self.received = 0
        self.closing: str | None = None
        self._graphs = itertools.count(1)
        # The scheduler confirms each cancellation of ours; by then the key may have been submitted anew.
        self._unconfirmed: dict[Key, int] = {}

    def next_graph(self) -> int:
        """The number of the next submission."""
        return next(self._graphs)  # any thread may ask

    def want(self, key: Key) -> tuple[FutureState, bool]:
        """One more `Future` of this key; whether it is the first, so that the scheduler must hear of it."""
        state = self.futures.get(key)
        if state is None:
            self.futures[key] = state = FutureState(key, references=1)
            return state, True
        state.references += 1
        return state, False

    def want_all(self, keys: Iterable[Key]) -> tuple[list[FutureState], set[int]]:
        """One more `Future` of each key, and the positions of those that are not the first."""
        futures = self.futures
        states: list[FutureState] = []
        known: set[int] = set()
        for key in keys:
            state = futures.get(key)
            if state is None:
                futures[key] = state = FutureState(key, references=1)
            else:
                state.references += 1
                known.add(len(states))
            states.append(state)
        return states, known

    def release(self, states: Iterable[FutureState]) -> list[Key]:
        """One `Future` less of each of these; returns the keys that nobody here wants any more."""
        futures = self.futures
        keys = []
        for state in states:
            state.references -= 1
            if state.references <= 0 and futures.get(state.key) is state:
                del futures[state.key]
                keys.append(state.key)
                if state.status not in DONE:
                    # nobody will tell us of it any more: whoever still looks must not wait for that
                    state.cancel("released")
                    self._wake(state)
        return keys

    def forget(self, states: Iterable[FutureState]) -> None:
        """Cancel futures that were never (wholly) submitted; nobody need hear of it."""
        for state in states:
            if self.futures.get(state.key) is state and state.status not in DONE:
                del self.futures[state.key]
                state.cancel("not submitted")
                self._wake(state)

    def cancel_unsent(self, keys: Iterable[Key], reason: str, message: str | None = None) -> None:
        """The message that names these cannot be sent, or need not be."""
        self._cancel(keys, reason, message)

    def cancel(self, keys: Iterable[Key], reason: str | None = None, message: str | None = None) -> list[Key]:
        """The user cancels these; returns the ones that we hold, to be named in `CancelKeys`."""
        held = self._cancel(keys, reason, message)
        for key in held:
            self._unconfirmed[key] = self._unconfirmed.get(key, 0) + 1
        return held

    def _cancel(self, keys: Iterable[Key], reason: str | None, message: str | None = None) -> list[Key]:
        held = []
        for key in keys:
            state = self.futures.pop(key, None)
            if state is not None:
                held.append(key)
                state.cancel(reason, message)
                self._wake(state)
        return held

    def _cancel_by_scheduler(self, keys: Iterable[Key], reason: str, text: str | None = None) -> None:
        unconfirmed = self._unconfirmed
        if not unconfirmed:
            self.dropped += self._cancel(keys, reason, text)
            return
        for key in keys:
            count = unconfirmed.get(key)
            if count is None:
                self.dropped += self._cancel((key,), reason, text)
            elif count == 1:
                del unconfirmed[key]
            else:
                unconfirmed[key] = count - 1

    def cancel_pending(self, reason: str, message: str | None = None) -> None:
        """The scheduler is gone: what is not done never will be."""
        for state in [state for state in self.futures.values() if state.status not in DONE]:
            del self.futures[state.key]
            state.cancel(reason, message)
            self._wake(state)

    def cancel_all(self, reason: str, message: str | None = None) -> None:
        """Nothing of what we hold exists any more."""
        self._cancel(list(self.futures), reason, message)
        self._unconfirmed.clear()

    def lose_all(self) -> list[Key]:
        """The connection is new: ask for these again (`DesireKeys`); erred ones are as they were."""
        keys = []
        for state in self.futures.values():
            if state.status != "error":
                keys.append(state.key)
                if state.status == "finished" and state.result is None:
                    state.lose()
        return keys

    def cancellations_sent(self, messages: Iterable[FromClient]) -> None:
        """The connection is new, and these go over it: of earlier cancellations nobody will confirm any other."""
        self._unconfirmed.clear()
        for message in messages:
            if type(message) is CancelKeys:
                for key in message.keys:
                    self._unconfirmed[key] = self._unconfirmed.get(key, 0) + 1

    def renew(self, state: FutureState) -> tuple[FutureState, bool]:
        """The record to go on with after data were put on workers, and whether the scheduler is to be asked for the
        key (`DesireKeys`): news that earlier data of the same key were lost may have cancelled this one meanwhile."""
        return (state, False) if self.futures.get(state.key) is state else (self.want(state.key)[0], True)

    def finish(self, state: FutureState, type: str | None = None) -> None:
        """We put the data there ourselves."""
        state.finish(type)
        self._wake(state)

    def add_waiter(self, state: FutureState, waiter: Waiter) -> bool:
        """Have `waiter(state)` called once it is done; `False` (and no call) when it is already."""
        if state.status in DONE:
            return False
        if state.waiters is None:
            state.waiters = [waiter]
        else:
            state.waiters.append(waiter)
        return True

    def count_down(
        self, states: Sequence[FutureState], wake: Callable[[], object], error_stops: bool, count: int | None
    ) -> Countdown | None:
        """Have `wake()` called once records are done; None (and no call) when there is nothing to wait for.

        Args:
            error_stops: one that is erred or cancelled is enough.
            count: so many are enough; None for all.
        """
        pending = [state for state in states if state.status not in DONE]
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
            self.add_waiter(state, countdown)
        return countdown

    def remove_waiter(self, state: FutureState, waiter: Waiter) -> None:
        """Whoever waited gave up."""
        if state.waiters and waiter in state.waiters:
            state.waiters.remove(waiter)

    def handle(self, message: ToClient) -> None:
        """React to a message from the scheduler.

        Raises:
            UnknownMessage: there is no such message.
        """
        react = REACTIONS.get(type(message))
        if react is None:
            raise UnknownMessage(f"a client does not handle messages of the class {type(message).__name__}")
        react(self, message)

    def take_woken(self) -> list[tuple[list[Waiter], FutureState]]:
        """The waiters to call, which are then forgotten here."""
        woken, self.woken = self.woken, []
        return woken

    def take_dropped(self) -> list[Key]:
        """The keys to release, which are then forgotten here."""
        dropped, self.dropped = self.dropped, []
        return dropped

    def take_events(self) -> list[ClientEvent | HandlerMessage]:
        """The events to hand out, which are then forgotten here."""
        events, self.events = self.events, []
        return events

    def _wake(self, state: FutureState) -> None:
        if state.waiters:
            self.woken.append((state.waiters, state))
            state.waiters = None

    def _on_key_in_memory(self, message: KeyInMemory) -> None:
        # most messages by far: no further call
        state = self.futures.get(message.key)
        if state is not None:
            state.status = "finished"
            state.error = None
            state.type = message.type
            if message.result is not None:
                state.result = message.result
            if state.waiters:
                self.woken.append((state.waiters, state))
                state.waiters = None

    def _on_task_erred(self, message: TaskErred) -> None:
        state = self.futures.get(message.key)
        if state is not None:
            state.set_error(message)
            self._wake(state)

    def _on_task_retried(self, message: TaskRetried) -> None:
        state = self.futures.get(message.key)
        if state is not None and state.status == "error":
            state.retry()

    def _on_lost_data(self, message: LostData) -> None:
        state = self.futures.get(message.key)
        # A small result that is here already is as good as ever.
        if state is not None and state.result is None:
            state.lose()

    def _on_cancelled_keys(self, message: CancelledKeys) -> None:
        self._cancel_by_scheduler(message.keys, message.reason or "unknown", message.text)

    def _on_graph_refused(self, message: GraphRefused) -> None:
        self._cancel_by_scheduler(message.keys, message.message)

    def _on_restarted(self, message: Restarted) -> None:
        self.cancel_all("scheduler-restart", "The scheduler has restarted: run your work again.")

    def _on_client_event(self, message: ClientEvent | HandlerMessage) -> None:
        self.events.append(message)

    def _on_messages_received(self, message: MessagesReceived) -> None:
        self.received = message.count

    def _on_scheduler_closing(self, message: SchedulerClosing) -> None:
        self.closing = message.reason or "scheduler-closed"


#: What each message does: one entry for each class of `ToClient`.
REACTIONS: dict[type[ToClient], Callable[[ClientCore, Any], None]] = {
    KeyInMemory: ClientCore._on_key_in_memory,
    TaskErred: ClientCore._on_task_erred,
    TaskRetried: ClientCore._on_task_retried,
    LostData: ClientCore._on_lost_data,
    CancelledKeys: ClientCore._on_cancelled_keys,
    GraphRefused: ClientCore._on_graph_refused,
    Restarted: ClientCore._on_restarted,
    ClientEvent: ClientCore._on_client_event,
    HandlerMessage: ClientCore._on_client_event,
    MessagesReceived: ClientCore._on_messages_received,
    SchedulerClosing: ClientCore._on_scheduler_closing,
}
