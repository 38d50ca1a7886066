"""What is this process's own end of a socket or pipe, and no business of children that it forks.

A child has all of its parent's descriptors. While it lived, nobody would see that its parent has died: a connection
ends with the last descriptor of it, a port is free with the last, and a worker hears of its nanny's end by a pipe. So a
child lets go of them at once. In their places it has `/dev/null`, since objects in it know them by their numbers.
"""

from __future__ import annotations

import contextlib
import os
from typing import TypeAlias

#: A descriptor, and the number of what it stood for: by the time of a fork it may have been closed and used again.
Kept: TypeAlias = tuple[int, int]

_kept: set[Kept] = set()


def keep_from_children(descriptor: int) -> Kept:
    """Children that are forked from now on are to let go of it, until `end_keeping` gets what this returns."""
    kept = (descriptor, os.fstat(descriptor).st_ino if hasattr(os, "fork") else 0)
    _kept.add(kept)
    return kept


def end_keeping(kept: Kept | None) -> None:
    """It is closed, or about to be."""
    if kept is not None:
        _kept.discard(kept)


def _after_fork() -> None:
    if not _kept:
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor, number in _kept:
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_ino == number:
                os.dup2(nothing, descriptor, inheritable=False)
    _kept.clear()
    os.close(nothing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
