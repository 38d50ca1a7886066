"""Rarer garbage collections in a program while a scheduler runs in it.

A scheduler's records are no garbage. At Python's usual 700 allocations, collections that find nothing took a tenth of
the time of a local cluster that runs tasks of no length; at 10,000 they take a third of that, and what waits
for one is some megabytes at most.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

#: Allocations between two collections of the youngest generation.
ALLOCATIONS = 10_000

_lock = threading.Lock()
_users = 0
_before: tuple[int, int, int] | None = None


def collect_less() -> Callable[[], None]:
    """Collect the youngest generation every `ALLOCATIONS` at most; returns what ends that, to be called once.

    The first caller changes the threshold and the last restores it. A program that collects more rarely, not at all, or
    changes the threshold in between keeps its own.
    """
    global _users, _before
    with _lock:
        _users += 1
        now = gc.get_threshold()
        if _users == 1 and 0 < now[0] < ALLOCATIONS:
            _before = now
            gc.set_threshold(ALLOCATIONS, *now[1:])
    return _collect_as_before


def _collect_as_before() -> None:
    global _users, _before
    with _lock:
        _users -= 1
        if _users == 0 and _before is not None:
            if gc.get_threshold() == (ALLOCATIONS, *_before[1:]):
                gc.set_threshold(*_before)
            _before = None
