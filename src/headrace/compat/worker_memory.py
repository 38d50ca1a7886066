"""`distributed.worker_memory`: what watches over the memory of workers."""

from __future__ import annotations

import logging

from dask.system import CPU_COUNT

from headrace import machine
from headrace.nanny.memory_watch import NannyMemoryManager
from headrace.worker.memory import WorkerMemoryManager


def parse_memory_limit(
    memory_limit: str | float | None,
    nthreads: int,
    total_cores: int | None = CPU_COUNT,
    *,
    logger: logging.Logger | None = None,
    **_: object,
) -> int | None:
    """Bytes that a worker may use; None for no limit. See `headrace.machine.parse_memory_limit`."""
    return machine.parse_memory_limit(memory_limit, nthreads, total_cores, logger=logger)


__all__ = ["NannyMemoryManager", "WorkerMemoryManager", "parse_memory_limit"]
