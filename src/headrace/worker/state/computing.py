"""The choice of the tasks that run next: best priority first, as long as there is room."""

from __future__ import annotations

from heapq import heappop
from typing import TYPE_CHECKING

from .mover import transition
from .run_queues import expected_seconds, fits, room

if TYPE_CHECKING:
    from .core import WorkerCore


def ensure_computing(state: WorkerCore) -> None:
    """Hand out queued tasks, best priority first, as long as there is room."""
    if not state.running:
        return
    if state.constrained:
        start_constrained(state)
    heap = state.ready
    while heap:
        task = heap[0][2]
        if task.state != "ready":  # left by another way than this: see `note_stale_ready`
            heappop(heap)
            state.stale_ready -= 1
            continue
        task.expected = expected_seconds(state, task)
        if not room(state, task.expected):
            return
        heappop(heap)
        transition(state, task, "executing")


def start_constrained(state: WorkerCore) -> None:
    """Hand out tasks whose resources are free, before the others: resources are scarce."""
    for demand, heap in list(state.constrained.items()):
        while heap and room(state, -1.0):
            task = heap[0][2]
            if task.state != "constrained":
                heappop(heap)
                continue
            if not fits(state, demand):
                break
            heappop(heap)
            transition(state, task, "executing")
        if not heap:
            del state.constrained[demand]
