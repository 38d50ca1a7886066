"""Root-like tasks that wait on the scheduler for a worker to have room, smallest priority first.

Removal is lazy: an entry whose task is no longer queued is skipped when it comes up.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from .tasks import TaskState


class TaskQueue:
    """A priority queue of tasks in state `queued`."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[float, float, int], int, TaskState]] = []
        self._pushed = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[TaskState]:
        seen: set[TaskState] = set()
        for _, _, task in sorted(self._heap):
            if task.state == "queued" and task not in seen:
                seen.add(task)
                yield task

    def __contains__(self, task: object) -> bool:
        return isinstance(task, TaskState) and task.state == "queued"

    def push(self, task: TaskState) -> None:
        """Add a task that has just become queued."""
        self._pushed += 1
        self._count += 1
        heappush(self._heap, (task.priority, self._pushed, task))

    def left(self) -> None:
        """A task has just ceased to be queued."""
        self._count -= 1
        if not self._count:
            self._heap.clear()

    def peek(self) -> TaskState | None:
        """The queued task with the smallest priority, or `None`."""
        heap = self._heap
        while heap:
            task = heap[0][2]
            if task.state == "queued":
                return task
            heappop(heap)
        return None
