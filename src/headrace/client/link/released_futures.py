"""Futures that were let go, until their keys are released: finalizers may run anywhere, and can take no lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from headrace.client.state import FutureState

from .outbox import ClientOutbox

#: Seconds for which released keys are collected before the scheduler hears of them.
RELEASE_DELAY = 0.02


class ReleasedFutures:
    """Collects the records of released futures.

    Args:
        outbox: knows the loop.
        release: called on the loop, some time after something was added, to take what is here.

    Attributes:
        states: the records, one entry a future.
    """

    def __init__(self, outbox: ClientOutbox, release: Callable[[], object]) -> None:
        self._outbox = outbox
        self._release = release
        self.states: deque[FutureState] = deque()
        self._scheduled = False

    def add(self, state: FutureState) -> None:
        """One future of this record is gone. Safe in a finalizer: takes no lock, raises nothing."""
        self.states.append(state)
        if not self._scheduled:
            self._scheduled = True
            try:
                self._outbox.loop.call_soon_threadsafe(self._arm)  # type: ignore[union-attr]
            except Exception:
                return  # the loop is gone, and with it all interest

    def extend(self, states: Iterable[FutureState]) -> None:
        """Futures of these records are gone; the caller sees to it that they are taken."""
        self.states.extend(states)

    def take(self) -> list[FutureState]:
        """All that is here, in the order in which it came."""
        states = self.states
        taken = []
        while states:
            taken.append(states.popleft())
        return taken

    def clear(self) -> None:
        """Forget them."""
        self.states.clear()

    def _arm(self) -> None:
        assert self._outbox.loop is not None
        self._outbox.loop.call_later(RELEASE_DELAY, self._due)

    def _due(self) -> None:
        self._scheduled = False
        self._release()
