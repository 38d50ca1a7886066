"""Settings of a process that is a worker: garbage collection, switching of threads, the allocator of large arrays.

Only for processes that are headrace's own: nothing here may be called in a user's program.
"""

from __future__ import annotations

import gc
import os
import sys

from headrace import config

#: Allocations between two collections of the youngest generation. Records of tasks are no garbage: collecting often
#: finds nothing and costs as much as the tasks.
GC_THRESHOLDS = (50_000, 20, 50)
#: Seconds for which a thread keeps the interpreter while others want it. The loop has to ask several times for each
#: batch of outcomes: at the usual 5 ms, threads that run tasks of 1 ms in pure Python were idle for two thirds of the
#: time, waiting for the loop, which waited for them.
SWITCH_INTERVAL = 0.0005
#: Variables that glibc reads at a process's start, and what `mallopt` calls them afterwards.
MALLOPT_NUMBERS = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}


def tune_interpreter() -> None:
    """Call once the worker is up: what exists then is left out of collections from now on."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def tune_allocator() -> None:
    """Apply the malloc thresholds of `distributed.nanny.pre-spawn-environ` to a process that was started without them.

    Variables that the user has set stand; only glibc knows such thresholds.
    """
    import ctypes

    given = config.variables("distributed.nanny.pre-spawn-environ")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    for name, number in MALLOPT_NUMBERS.items():
        if mallopt is not None and name in given and name not in os.environ:
            mallopt(number, int(given[name]))
