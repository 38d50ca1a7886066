"""Virtual time: what happens when, in one process, without waiting.

Events of the same moment run in an order drawn from the seed. Nothing here knows what the events are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Timeline:
    """A clock, and what is to happen later."""

    def __init__(self, random: random.Random) -> None:
        self.now = 0.0
        self.steps = 0
        self._draw = random.random
        self._number = 0
        self._heap: list[tuple[float, float, int, Callable[..., Any], tuple[Any, ...]]] = []

    def at(self, time: float, function: Callable[..., Any], *args: Any) -> None:
        """Call a function at a time, or now if that has passed."""
        self._number += 1
        heappush(self._heap, (max(time, self.now), self._draw(), self._number, function, args))

    def later(self, seconds: float, function: Callable[..., Any], *args: Any) -> None:
        """Call a function after so many seconds."""
        self.at(self.now + seconds, function, *args)

    def step(self) -> bool:
        """Let the next thing happen; `False` when nothing is left."""
        if not self._heap:
            return False
        self.now, _, _, function, args = heappop(self._heap)
        self.steps += 1
        function(*args)
        return True
