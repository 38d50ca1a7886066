"""What a process holds: memory, descriptors, threads, and what is kept in the records of this package.

Records are found, not listed: every object of a class of this package, and every module, is looked through for
containers, and their lengths are summed by class and attribute. Containers that are bounded by themselves are left out.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

#: Kept up to a bound on purpose, filled once, or of one size for every connection (these are counted as objects).
BOUNDED = (
    "headrace.comm.lent_memory.same_machine._free_slots",  # of the most connections at a time; made 256 at once
    "objects of headrace.comm.lent_memory.same_machine.Slot",
    "headrace.comm.socket_comm.SocketComm._own_info",
    "headrace.comm.socket_comm.SocketComm.peer_info",
    "objects of headrace.scheduler.connections.fatal_results.Death",  # DEATHS_KEPT
    "headrace.protocol.functions.shareable._loaded",  # LOADED_FUNCTIONS
    "headrace.worker.execution.result_sizes._type_names",
    "headrace.worker.execution.loading._stood",
    "headrace.common.importing.imported",
    "headrace.diagnostics.task_stream.TaskStreamPlugin.buffer",
)


def census(dask_worker: Any = None, dask_scheduler: Any = None) -> dict[str, Any]:
    """What this process holds now: `rss` in bytes, `fds`, `threads`, and `records` by name.

    Args:
        dask_worker, dask_scheduler: given by `Client.run` and `run_on_scheduler`; not used.
    """
    for _ in range(3):
        gc.collect()
    _give_back()
    records: dict[str, int] = {}
    for name, value in _containers():
        if name not in BOUNDED:
            records[name] = records.get(name, 0) + len(value)
    return {
        "pid": os.getpid(),
        "rss": _rss(),
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "records": records,
    }


def _containers() -> Iterator[tuple[str, Any]]:
    for module in [module for name, module in sys.modules.items() if name.startswith("headrace")]:
        for name, value in vars(module).items():
            if _is_counted(value) and not name.startswith("__"):
                yield f"{module.__name__}.{name}", value
    for one in gc.get_objects():
        kind = type(one)
        if not str(getattr(kind, "__module__", "")).startswith("headrace"):
            continue
        name = f"{kind.__module__}.{kind.__qualname__}"
        yield f"objects of {name}", (one,)
        for attribute, value in _attributes(one):
            if _is_counted(value):
                yield f"{name}.{attribute}", value


def _attributes(one: Any) -> Iterator[tuple[str, Any]]:
    found = getattr(one, "__dict__", None)
    if isinstance(found, dict):
        yield from list(found.items())
    for base in type(one).__mro__:
        for name in getattr(base, "__slots__", ()):
            if isinstance(name, str) and hasattr(one, name):
                yield name, getattr(one, name)


def _is_counted(value: Any) -> bool:
    if type(value) is deque:
        return value.maxlen is None
    return isinstance(value, (dict, set, list)) or (isinstance(value, Mapping) and hasattr(value, "__len__"))


def _rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _give_back() -> None:
    """Have the allocator give back what is free."""
    from headrace.comm.frame_memory import drop_kept

    drop_kept()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
