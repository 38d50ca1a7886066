"""Readings of memory: of one worker, or of the whole cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from headrace.common.display.units import bytes_in_words


class MemoryState:
    """Memory in bytes.

    Args:
        process: resident memory of the process, as its system sees it.
        unmanaged_old: the least that was not accounted for by results over the last `recent-to-old-time`.
        managed: what results in memory take, by their own account.
        spilled: what results take on disk.

    Attributes:
        managed_in_memory, managed_spilled: `managed` and `spilled`.
        managed_total: both.
        unmanaged: the process without results: the interpreter, modules, running tasks, what was not given back.
        unmanaged_recent: what of that has come lately, and may go again.
        optimistic: the process without that.
    """

    __slots__ = ("managed", "process", "spilled", "unmanaged_old")

    def __init__(self, process: int, unmanaged_old: int, managed: int, spilled: int) -> None:
        # Readings are taken at different moments: what they add up to must not exceed the whole.
        self.process = process
        self.managed = max(0, min(managed, process))
        self.unmanaged_old = max(0, min(unmanaged_old, process - self.managed))
        self.spilled = spilled

    @staticmethod
    def sum(*infos: MemoryState) -> MemoryState:
        """Several together."""
        return MemoryState(
            process=sum(info.process for info in infos),
            unmanaged_old=sum(info.unmanaged_old for info in infos),
            managed=sum(info.managed for info in infos),
            spilled=sum(info.spilled for info in infos),
        )

    @property
    def managed_in_memory(self) -> int:
        return self.managed

    @property
    def managed_spilled(self) -> int:
        return self.spilled

    @property
    def managed_total(self) -> int:
        return self.managed + self.spilled

    @property
    def unmanaged(self) -> int:
        return self.process - self.managed

    @property
    def unmanaged_recent(self) -> int:
        return self.unmanaged - self.unmanaged_old

    @property
    def optimistic(self) -> int:
        return self.managed + self.unmanaged_old

    def to_dict(self) -> dict[str, int]:
        """All readings by name."""
        return {name: getattr(self, name) for name in _READINGS}

    def __repr__(self) -> str:
        return (
            f"Process memory (RSS)  : {bytes_in_words(self.process)}\n"
            f"  - managed results   : {bytes_in_words(self.managed)}\n"
            f"  - unmanaged (old)   : {bytes_in_words(self.unmanaged_old)}\n"
            f"  - unmanaged (recent): {bytes_in_words(self.unmanaged_recent)}\n"
            f"Spilled to disk       : {bytes_in_words(self.spilled)}\n"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemoryState) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]


_READINGS = (
    "process",
    "managed",
    "spilled",
    "managed_total",
    "unmanaged",
    "unmanaged_old",
    "unmanaged_recent",
    "optimistic",
)


class UnmanagedHistory:
    """The least unmanaged memory over a time that slides: readings that a later, lower one outdoes are left out."""

    __slots__ = ("_readings",)

    def __init__(self) -> None:
        self._readings: deque[tuple[float, int]] = deque()

    def add(self, now: float, unmanaged: int, seconds: float) -> None:
        """Take a reading at a time; those older than `seconds` no longer count."""
        readings = self._readings
        while readings and readings[-1][1] >= unmanaged:
            readings.pop()
        readings.append((now, unmanaged))
        while readings[0][0] < now - seconds:
            readings.popleft()

    @property
    def least(self) -> int:
        """Bytes; 0 before the first reading."""
        return self._readings[0][1] if self._readings else 0


def spilled_of(metrics: Mapping[str, Any]) -> tuple[int, int]:
    """Read the spilled results out of a heartbeat: bytes they took in memory, bytes they take on disk."""
    spilled = metrics.get("spilled_bytes")
    if not isinstance(spilled, Mapping):
        return 0, 0
    return int(spilled.get("memory", 0)), int(spilled.get("disk", 0))
