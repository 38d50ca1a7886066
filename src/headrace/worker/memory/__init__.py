"""A worker's memory: where results lie, when they are spilled to disk, when the worker pauses."""

from __future__ import annotations

from .buffer import SpillBuffer, SpilledValues, UnreadableError
from .manager import WorkerMemoryManager, off_the_loop
from .memory_options import KEYWORDS, MemoryOptions
from .protocols import ManualEvictProto
from .spilled_sizes import SpilledSize

__all__ = [
    "KEYWORDS",
    "ManualEvictProto",
    "MemoryOptions",
    "SpillBuffer",
    "SpilledSize",
    "SpilledValues",
    "UnreadableError",
    "WorkerMemoryManager",
    "off_the_loop",
]
