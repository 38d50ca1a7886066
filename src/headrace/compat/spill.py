"""`distributed.spill`: where a worker keeps results that may go to disk, and storage for others."""

from __future__ import annotations

from headrace.compat.toolbox.spilling import (
    AnyKeyFile,
    HandledError,
    MaxSpillExceeded,
    PickleError,
    Slow,
)
from headrace.worker.memory import ManualEvictProto, SpillBuffer, SpilledSize

__all__ = [
    "AnyKeyFile",
    "HandledError",
    "ManualEvictProto",
    "MaxSpillExceeded",
    "PickleError",
    "Slow",
    "SpillBuffer",
    "SpilledSize",
]
