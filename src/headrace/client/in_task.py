"""What the client does differently inside a task. Knows the worker's package only when that is loaded already."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from .current import task_key


@contextlib.contextmanager
def outside_of_slot() -> Iterator[None]:
    """Give the thread's slot back while a task waits for other tasks: they may need it."""
    context = sys.modules.get("headrace.worker.context")
    if context is None or task_key() is None:
        yield
        return
    try:
        context.secede()
        seceded = True
    except Exception:  # it has seceded already, or is none of the worker's threads
        seceded = False
    try:
        yield
    finally:
        if seceded:
            context.rejoin()
