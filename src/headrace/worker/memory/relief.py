"""Relief for a process that takes too much memory, step by step: evict, give back, collect, warn.

Runs in the spiller's thread (or another in the background), never on the loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from headrace import machine
from headrace.common.display.units import bytes_in_words

from .buffer import SpillBuffer
from .spilled_sizes import Reclaim

logger = logging.getLogger("distributed.worker")

#: Seconds between two warnings about memory that no result accounts for.
WARN_EVERY = 60.0
#: Share of the limit that is evicted at least before looking again.
AT_LEAST = 0.02


class Relief:
    """Brings a process below a number of bytes.

    Args:
        limit: what the worker may take.
        threshold: where to go below.
        buffer: what to evict from; None if results are kept elsewhere.
        process_memory: gives the bytes that the process takes now.
    """

    def __init__(
        self,
        limit: int,
        threshold: float,
        buffer: SpillBuffer | None,
        process_memory: Callable[[], int] = machine.process_memory,
    ) -> None:
        self._process_memory = process_memory
        self.limit = limit
        self.threshold = threshold
        self._buffer = buffer
        self._reclaim = Reclaim()
        self._freed = 0
        self._excess = 0.0
        self._goal = threshold
        self._warn_at = 0.0

    def aim(self, process: int, goal: float) -> None:
        """Have values evicted until the process is below the goal; in any thread.

        Args:
            process: bytes that it takes now.
            goal: bytes.
        """
        assert self._buffer is not None
        if not self._buffer.pressed or goal < self._goal:
            self._goal = goal
            self._begin(process)
            self._buffer.press(True)

    def _begin(self, process: int) -> None:
        self._excess = process - self._goal + AT_LEAST * self.limit
        self._freed = 0

    def reached(self, process: int) -> bool:
        """Whether the process is where it shall be, or cannot get there by evicting."""
        return process <= self._goal or self._buffer is None or not self._buffer.evictable_bytes

    def before_eviction(self) -> None:
        """See first what the allocator can give back: that is quicker than writing."""
        assert self._buffer is not None
        if self._buffer.pressed and self._reclaim.trim():
            process = self._process_memory()
            if process <= self._goal:
                self._buffer.press(False)
            else:
                self._begin(process)

    def after_eviction(self, freed: int) -> None:
        """Look whether enough was evicted; what leaves the buffer does not leave the process at once.

        Args:
            freed: bytes; negative if there was nothing left.
        """
        assert self._buffer is not None
        if not self._buffer.pressed:
            return
        self._freed += max(freed, 0)
        if freed >= 0 and self._freed < self._excess:
            return
        if freed < 0:
            self.reclaim()
        else:
            self._reclaim.trim(wait=True)  # else what was freed would not be seen, and too much evicted
        process = self._process_memory()
        if self.reached(process):
            self._buffer.press(False)
        else:
            self._begin(process)

    def reclaim(self) -> None:
        """Nothing can be evicted: find what nobody uses."""
        self._reclaim.trim()
        if self._process_memory() <= self.threshold:
            return
        if self._reclaim.collect():
            self._reclaim.trim()
        process, now = self._process_memory(), time.monotonic()
        if process > self.threshold and now >= self._warn_at:
            self._warn_at = now + WARN_EVERY
            managed = self._buffer.memory_bytes if self._buffer is not None else 0
            logger.warning(
                "Unmanaged memory use is high: the process takes %s, of which %s are results that cannot be spilled; "
                "the worker's limit is %s. Tasks may need more memory than there is, or keep what they do not return.",
                bytes_in_words(process),
                bytes_in_words(managed),
                bytes_in_words(self.limit),
            )
