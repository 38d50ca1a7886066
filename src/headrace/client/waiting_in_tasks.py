"""Waiting inside a task: another one gets its place meanwhile, and an interruption can strike."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from headrace.common.current_run import run_context

#: Seconds for which a task may wait for others before it gives its place in the worker's threads to another.
PATIENCE = 0.05
#: Seconds for which a task waits in one go: what interrupts it strikes between two of its instructions only.
LOOK = 0.1


@contextlib.contextmanager
def outside_of_slot() -> Iterator[None]:
    """Give the place of the task that runs here to another one: what it waits for may need it.

    Nothing happens outside of tasks, or when the task has seceded by itself.
    """
    context = run_context()
    state = getattr(context.thread_state, "execution_state", None) if context is not None else None
    if context is None or not state or not state["worker"].task_executor.pool.is_member():
        yield
        return
    context.secede()
    try:
        yield
    finally:
        context.rejoin()


def acquire(gate: threading.Lock, timeout: float | None) -> bool:
    """Wait for a lock, in a way that lets other tasks run meanwhile if this is a task.

    Args:
        timeout: seconds.
    """
    seconds = -1 if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX)
    if run_context() is None:
        return gate.acquire(timeout=seconds)
    if seconds >= 0 and seconds <= PATIENCE:
        return gate.acquire(timeout=seconds)
    start = time.monotonic()
    if gate.acquire(timeout=PATIENCE):
        return True
    with outside_of_slot():
        while seconds < 0 or time.monotonic() - start < seconds:
            left = LOOK if seconds < 0 else min(LOOK, max(seconds - (time.monotonic() - start), 0))
            if gate.acquire(timeout=left):
                return True
        return False
