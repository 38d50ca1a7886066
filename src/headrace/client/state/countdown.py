"""`Countdown`: one waiter for several records at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .futures import FutureState


class Countdown:
    """Counts records that become done, and wakes whoever waits once enough are.

    Args:
        remaining: how many must be done.
        wake: called when they are.
        error_stops: whether one that is erred or cancelled is enough.
    """

    __slots__ = ("error_stops", "remaining", "wake")

    def __init__(self, remaining: int, wake: Callable[[], object], error_stops: bool) -> None:
        self.remaining = remaining
        self.wake = wake
        self.error_stops = error_stops

    def __call__(self, state: FutureState) -> None:
        self.remaining -= 1
        if not self.remaining or (self.error_stops and state.status != "finished"):
            self.wake()
