"""Descriptors of sockets and pipes that forked children must not keep open.

A child inherits all of its parent's descriptors. As long as the child lived, nobody would notice that its parent has
died: a connection ends, and a port becomes free, only when the last descriptor is closed, and a worker notices the end
of its nanny by a pipe. So a child closes these descriptors at once. It opens `/dev/null` under the same numbers, since
objects in the child still refer to them.
"""

from __future__ import annotations

import contextlib
import os
from typing import TypeAlias

#: A descriptor and the inode it stood for: by the time of a fork it may have been closed and used for another file.
Kept: TypeAlias = tuple[int, int]

_kept: set[Kept] = set()


def keep_from_children(descriptor: int) -> Kept:
    """Have children that are forked from now on close a descriptor, until `end_keeping` gets the returned value."""
    kept = (descriptor, os.fstat(descriptor).st_ino if hasattr(os, "fork") else 0)
    _kept.add(kept)
    return kept


def end_keeping(kept: Kept | None) -> None:
    """Leave a descriptor alone again: this process has closed it, or is about to."""
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
