"""How many locks of the cluster the running thread holds: a thread that holds one must not wait for those who want it.

`Lock`, `MultiLock` and `Semaphore` count here, and a task that waits for other tasks looks.
"""

from __future__ import annotations

import threading

_here = threading.local()


def took_lock() -> None:
    """Count one more lock of the cluster as held by this thread."""
    _here.count = getattr(_here, "count", 0) + 1


def gave_lock() -> None:
    """Count one lock less, if this thread holds any (another thread may have taken it)."""
    _here.count = max(getattr(_here, "count", 0) - 1, 0)


def holds_locks() -> bool:
    """Whether this thread holds a lock of the cluster. If so, it must not wait for those who want the lock."""
    return bool(getattr(_here, "count", 0))
