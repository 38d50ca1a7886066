"""`distributed.system`."""

from __future__ import annotations

from dask.system import CPU_COUNT

from headrace.machine import system_memory_limit as memory_limit

#: Bytes of memory that this process may use.
MEMORY_LIMIT = memory_limit()

__all__ = ["CPU_COUNT", "MEMORY_LIMIT", "memory_limit"]
