"""`distributed.spill`: where a worker keeps results that may go to disk."""

from __future__ import annotations

from headrace.worker.memory import ManualEvictProto, SpillBuffer, SpilledSize

__all__ = ["ManualEvictProto", "SpillBuffer", "SpilledSize"]
