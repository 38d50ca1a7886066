"""What this machine lets this process have, memory and processors, and what memory a process takes.

Workers and nannies use it. Starts no process, and reads nothing but the system's tables.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path

_CGROUP_MEMORY = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@lru_cache
def system_memory_limit() -> int:
    """Bytes of memory that this process may use: the machine's, or what its control group or ulimit allows."""
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
    """Resident bytes of a process, this one by default, by the cheapest way there is; 0 when it is gone."""
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
    """A share of the memory limit at which something happens; False for never.

    Args:
        name: of the setting below `distributed.worker.memory`.

    Raises:
        ValueError: it is no number between 0 and 1; names the setting.
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
    """As `parse_memory_limit`, for one of so many like it on this machine: they split "auto" evenly.

    Args:
        workers: how many there are at the start; of 0, as nobody knows how many will come, its part by its threads.
    """
    return parse_memory_limit(value, 1, workers) if workers else parse_memory_limit(value, nthreads)


def parse_memory_limit(
    value: str | float | None, nthreads: int, total_cores: int | None = None, logger: logging.Logger | None = None
) -> int | None:
    """Bytes that a worker may use; None for no limit.

    Args:
        value: "auto" for this worker's share by its threads, a text such as "5 GB", bytes, a fraction of the system's
            memory (a float of at most 1), or 0 or None for no limit. More than there is, is what there is.
        total_cores: processors by which threads share; by default those of this process.
        logger: is told when the limit is more than there is.

    Raises:
        ValueError: a text that is not a number of bytes, or a negative number.
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
