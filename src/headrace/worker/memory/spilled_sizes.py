"""Sizes of spilled values, and giving memory back to the system."""

from __future__ import annotations

import gc
import sys
import time
from typing import Any, NamedTuple

#: Seconds between two requests to the allocator to give back what it keeps, and at most this share of the time.
TRIM_EVERY = 0.02
TRIM_SHARE = 0.1
#: A full garbage collection keeps the interpreter; at most this share of the time goes into them.
COLLECTION_SHARE = 0.05


class SpilledSize(NamedTuple):
    """Bytes that values took in memory, and take on disk."""

    memory: int
    disk: int

    def __add__(self, other: Any) -> SpilledSize:
        return SpilledSize(self.memory + other.memory, self.disk + other.disk)

    def __sub__(self, other: Any) -> SpilledSize:
        return SpilledSize(self.memory - other.memory, self.disk - other.disk)


class Reclaim:
    """Gives back memory that the process holds and does not use; not too often."""

    def __init__(self) -> None:
        self._next_trim = 0.0
        self._next_collection = 0.0
        self._malloc_trim: Any = None

    def trim(self, wait: bool = False) -> bool:
        """Have glibc give back its free pages; returns whether it was asked to.

        Args:
            wait: until it may be asked again, if it was a moment ago.
        """
        if not sys.platform.startswith("linux"):
            return False
        early = self._next_trim - time.monotonic()
        if early > 0:
            if not wait:
                return False
            time.sleep(early)
        if self._malloc_trim is None:
            import ctypes

            self._malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) or bool
        start = time.monotonic()
        self._malloc_trim(0)
        end = time.monotonic()
        self._next_trim = end + max(TRIM_EVERY, (end - start) / TRIM_SHARE)
        return True

    def collect(self) -> bool:
        """Find garbage in cycles; returns whether it was looked for."""
        now = time.monotonic()
        if now < self._next_collection:
            return False
        gc.collect()
        took = time.monotonic() - now
        self._next_collection = now + max(2.0, took / COLLECTION_SHARE)
        return True
