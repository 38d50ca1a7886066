"""`distributed.counter`: counts of things, of late and over longer times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import pairwise


class Counter:
    """How often things were counted, of late first.

    Each `shift`, of which one a second is meant, moves a part of the counts to the next longer time.

    Args:
        intervals: in how many shifts counts move on, on the average; in the last they stay.

    Attributes:
        components: for each interval the counts, by what was counted.
    """

    __slots__ = ("components", "intervals")

    def __init__(self, intervals: Sequence[float] = (5, 60, 3600)) -> None:
        self.intervals = intervals
        self.components: list[defaultdict[Hashable, float]] = [defaultdict(int) for _ in intervals]

    def add(self, item: Hashable) -> None:
        """Count something once."""
        self.components[0][item] += 1

    def shift(self) -> None:
        """Let time pass."""
        for interval, (recent, older) in zip(self.intervals, pairwise(self.components), strict=False):
            for item, count in recent.items():
                moved = count / interval
                recent[item] = count - moved
                older[item] += moved

    def size(self) -> float:
        """How often anything was counted."""
        return sum(sum(component.values()) for component in self.components)


__all__ = ["Counter"]
