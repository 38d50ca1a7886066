"""The number of locks of the cluster that the running thread holds: it must not wait for tasks that may want one.

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
    """Whether this thread holds a lock of the cluster."""
    return bool(getattr(_here, "count", 0))
