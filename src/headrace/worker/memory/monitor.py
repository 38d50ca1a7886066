"""What is done about a process that takes too much memory, step by step: evict, give back, collect, warn.

Runs in the spiller's thread (or another in the background), never on the loop.
"""

from __future__ import annotations

import logging
import time

from headrace.machine import process_memory

from .buffer import SpillBuffer
from .sizes import Reclaim

logger = logging.getLogger("distributed.worker.memory")

#: Seconds between two warnings about memory that no result accounts for.
WARN_EVERY = 60.0


class Relief:
    """Brings a process below a number of bytes.

    Args:
        limit: what the worker may take.
        threshold: where to go below.
        buffer: what to evict from; None if results are kept elsewhere.
    """

    def __init__(self, limit: int, threshold: float, buffer: SpillBuffer | None) -> None:
        self.limit = limit
        self.threshold = threshold
        self._buffer = buffer
        self._reclaim = Reclaim()
        self._freed = 0
        self._excess = 0.0
        self._warn_at = 0.0

    def begin(self, process: int) -> None:
        """The process is over the threshold. On the loop."""
        self._excess = process - self.threshold
        self._freed = 0

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
            self._reclaim.trim()
        process = process_memory()
        if process <= self.threshold:
            self._buffer.press(False)
        else:
            self.begin(process)

    def reclaim(self) -> None:
        """Nothing can be evicted: find what nobody uses."""
        self._reclaim.trim()
        if process_memory() <= self.threshold:
            return
        if self._reclaim.collect():
            self._reclaim.trim()
        process = process_memory()
        now = time.monotonic()
        if process > self.threshold and now >= self._warn_at:
            self._warn_at = now + WARN_EVERY
            managed = self._buffer.memory_bytes if self._buffer is not None else 0
            logger.warning(
                "Unmanaged memory use is high: the process takes %s, of which %s are results that cannot be spilled; "
                "the worker's limit is %s. Tasks may need more memory than there is, or keep what they do not return.",
                in_words(process),
                in_words(managed),
                in_words(self.limit),
            )


def in_words(nbytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kiB", "MiB"):
        if abs(nbytes) < 1024:
            return f"{nbytes:.4g} {unit}"
        nbytes /= 1024
    return f"{nbytes:.4g} GiB"
