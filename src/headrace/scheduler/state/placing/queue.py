"""Root-like tasks that wait on the scheduler for a worker to have room, smallest priority first.

Graphs arrive in order of priority, so most pushes extend one ascending run, which costs the same however long it is;
what comes out of order goes to a heap. Removal is lazy: an entry whose task is no longer queued is skipped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TypeAlias

from headrace.scheduler.state.records.tasks import TaskState

Entry: TypeAlias = tuple[tuple[float, float, int], int, TaskState]


class TaskQueue:
    """A priority queue of tasks in state `queued`.

    Attributes:
        count: how many there are; the same as `len`, at the price of an attribute.
    """

    def __init__(self) -> None:
        self._run: deque[Entry] = deque()
        self._heap: list[Entry] = []
        self._pushed = 0
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[TaskState]:
        seen: set[TaskState] = set()
        for _, _, task in sorted([*self._run, *self._heap]):
            if task.state == "queued" and task not in seen:
                seen.add(task)
                yield task

    def __contains__(self, task: object) -> bool:
        return isinstance(task, TaskState) and task.state == "queued"

    def push(self, task: TaskState) -> None:
        """Add a task that has just become queued."""
        self._pushed += 1
        self.count += 1
        entry = (task.priority, self._pushed, task)
        if not self._run or self._run[-1][0] <= task.priority:
            self._run.append(entry)
        else:
            heappush(self._heap, entry)

    def left(self) -> None:
        """A task has just ceased to be queued."""
        self.count -= 1
        if not self.count:
            self._run.clear()
            self._heap.clear()

    def peek(self) -> TaskState | None:
        """The queued task with the smallest priority, or `None`."""
        run, heap = self._run, self._heap
        while run and run[0][2].state != "queued":
            run.popleft()
        while heap and heap[0][2].state != "queued":
            heappop(heap)
        if run and (not heap or run[0] < heap[0]):
            return run[0][2]
        return heap[0][2] if heap else None
