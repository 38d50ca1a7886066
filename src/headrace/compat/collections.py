"""`distributed.collections`."""

from __future__ import annotations

from headrace.toolbox.containers import LRU, HeapSet, sum_mappings

__all__ = ["LRU", "HeapSet", "sum_mappings"]
