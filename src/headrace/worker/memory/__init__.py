"""A worker's memory: where results lie, when they are spilled to disk, when the worker pauses."""

from __future__ import annotations

from .buffer import SpillBuffer, SpilledValues
from .manager import WorkerMemoryManager
from .options import KEYWORDS, MemoryOptions
from .sizes import SpilledSize

__all__ = ["KEYWORDS", "MemoryOptions", "SpillBuffer", "SpilledSize", "SpilledValues", "WorkerMemoryManager"]
