"""How many locks of the cluster the code in this thread holds: who holds one must not wait for those who want it."""

from __future__ import annotations

import threading

_here = threading.local()


def took() -> None:
    """This thread holds one more."""
    _here.count = getattr(_here, "count", 0) + 1


def gave() -> None:
    """This thread holds one less, if it holds any (it may have been taken in another)."""
    _here.count = max(getattr(_here, "count", 0) - 1, 0)


def holds() -> bool:
    """Whether this thread holds any."""
    return bool(getattr(_here, "count", 0))
