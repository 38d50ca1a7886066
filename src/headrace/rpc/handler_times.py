"""How often things were handled, and how long that took."""

from __future__ import annotations


class HandlerTimes:
    """Sums by the name of what was handled; they never fall.

    Attributes:
        counts: how many there were.
        seconds: how long they took, all together.
    """

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def note(self, name: str, seconds: float, count: int = 1) -> None:
        """Add some that took so long together."""
        self.counts[name] = self.counts.get(name, 0) + count
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
