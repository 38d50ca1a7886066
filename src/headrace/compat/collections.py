"""`distributed.collections`."""

from __future__ import annotations

from headrace.compat.toolbox.mappings import LRU, HeapSet, sum_mappings

__all__ = ["LRU", "HeapSet", "sum_mappings"]
