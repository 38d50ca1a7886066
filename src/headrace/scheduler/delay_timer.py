"""The clock of tasks that wait for their next attempt: one timer, for the first of them. It decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace import clock

from .state.core import SchedulerCore


class DelayTimer:
    """Tells the state when a task that waits for its next attempt is due.

    Args:
        state: what is told.
        flush: sends what that leads to.
    """

    def __init__(self, state: SchedulerCore, flush: Callable[[], None]) -> None:
        self._state = state
        self._flush = flush
        self._due = float("inf")
        self._timer: asyncio.Handle | None = None

    def set(self) -> None:
        """Wake up when the first task is due."""
        due = self._state.delays.next_due()
        if due is None or (self._timer is not None and self._due <= due):
            return
        self.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_later(max(due - clock.now(), 0.0), self._wake)

    def cancel(self) -> None:
        """Wake up no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        self._state.on_retries_due(clock.now())
        self._flush()
        self.set()
