"""The memory and the processors that this machine lets this process have, and the memory that a process takes.

Workers and nannies ask here. Starts no process, and reads only the system's tables.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path

_CGROUP_MEMORY = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@lru_cache
def system_memory_limit() -> int:
    """Bytes of memory that this process may use: all of the machine's, or as many as control group or ulimit allow."""
    try:
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        import psutil

        limit = int(psutil.virtual_memory().total)
    for path in _CGROUP_MEMORY:
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) > 0:
            limit = min(limit, int(text))
    try:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_RSS)[1]
    except (ImportError, OSError):
        hard = -1
    return min(limit, hard) if hard > 0 else limit


_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def process_memory(pid: int | None = None) -> int:
    """Resident bytes of a process, this one by default, read in the cheapest way; 0 if the process is gone."""
    try:
        with open(f"/proc/{pid or 'self'}/statm", "rb", buffering=0) as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        pass
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


@lru_cache
def cpu_count() -> int:
    """Processors that this process may use."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0)) or count
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return count


def memory_fraction(name: str, value: float | str | None) -> float | bool:
    """The share of the memory limit from which on a worker takes a measure; False for never.

    Args:
        name: the setting's, below `distributed.worker.memory`.
        value: the setting's value.

    Raises:
        ValueError: the value is no number between 0 and 1; the message names the setting.
    """
    if not value:
        return False
    try:
        fraction = float(value)
    except (TypeError, ValueError):
        fraction = -1.0
    if not 0 < fraction <= 1 or value is True:
        raise ValueError(
            f"distributed.worker.memory.{name} is {value!r}; it must be a share of the memory limit between 0 and 1, "
            "or false to switch it off"
        )
    return fraction


def share_of_memory(value: str | float | None, workers: int, nthreads: int) -> int | None:
    """Bytes that each of several workers on this machine may use, as `parse_memory_limit`: they split "auto" evenly.

    Args:
        workers: number of workers at the start; with 0, where their later number is unknown, "auto" is a worker's share
            by its threads.
    """
    return parse_memory_limit(value, 1, workers) if workers else parse_memory_limit(value, nthreads)


def parse_memory_limit(
    value: str | float | None, nthreads: int, total_cores: int | None = None, logger: logging.Logger | None = None
) -> int | None:
    """Bytes that a worker may use; None for no limit.

    Args:
        value: "auto" for this worker's share by its threads, a text such as "5 GB", bytes, a fraction of the system's
            memory (a float of at most 1), or 0 or None for no limit. The result is never more than the system's memory.
        total_cores: processors by which threads share; by default those of this process.
        logger: gets a warning if the limit is more than the system's memory.

    Raises:
        ValueError: the value is negative, or a text that is no number of bytes.
    """
    if not value:
        return None
    if value == "auto":
        value = int(system_memory_limit() * min(1.0, nthreads / (total_cores or cpu_count())))
    if isinstance(value, str):
        from headrace.config import parse_bytes

        try:
            value = float(value)
        except ValueError:
            value = parse_bytes(value)
    if isinstance(value, float) and value <= 1:
        value = value * system_memory_limit()
    if value < 0:
        raise ValueError(f"memory_limit must not be negative, and is {value}")
    if not value:
        return None
    system = system_memory_limit()
    if value > system and logger is not None:
        logger.warning("Ignoring the memory limit of %d bytes: there are %d", value, system)
    return min(int(value), system)
