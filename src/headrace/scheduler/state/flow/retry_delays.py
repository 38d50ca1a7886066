"""Tasks that wait for the time of their next attempt, by their retry policy.

Such a task is `waiting`, has all that it needs or waits for that as well, and is on no worker. The shell asks when the
first is due (`Delays.next_due`) and then calls `SchedulerCore.on_retries_due`; there is no clock here.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from headrace.common.retry_policy import policy_of, seconds_before

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.transitions.engine import Recommendations


class Delays:
    """The tasks that wait, by when they are due."""

    def __init__(self) -> None:
        self._due: dict[TaskState, float] = {}
        self._heap: list[tuple[float, int, TaskState]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, task: TaskState) -> bool:
        return task in self._due

    def add(self, task: TaskState, due: float) -> None:
        """Let a task wait until then."""
        if self._due.get(task) != due:
            self._due[task] = due
            self._number += 1
            heappush(self._heap, (due, self._number, task))

    def discard(self, task: TaskState) -> None:
        """A task does not wait any more."""
        if self._due.pop(task, None) is not None and len(self._heap) > 2 * len(self._due) + 100:
            self._heap = sorted(entry for entry in self._heap if self._due.get(entry[2]) == entry[0])

    def next_due(self) -> float | None:
        """Time at which the first of them is to run, in seconds since the epoch."""
        heap = self._heap
        while heap and self._due.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def take_due(self, now: float) -> list[TaskState]:
        """Take out the tasks that are due, in that order."""
        taken = []
        while (due := self.next_due()) is not None and due <= now:
            _, _, task = heappop(self._heap)
            del self._due[task]
            taken.append(task)
        return taken


def retry_at(state: SchedulerCore, task: TaskState) -> float:
    """Time at which a task that has just failed, and is to be tried again, may run; 0 for at once."""
    policy = policy_of(task.options.annotations)
    if policy is None:
        return 0.0
    attempt = task.options.retries - task.retries
    seconds = seconds_before(policy, attempt, task.key)
    return state.now + seconds if seconds else 0.0


def run_due(state: SchedulerCore) -> Recommendations:
    """Tasks whose time has come, and that nothing else holds up."""
    recommendations: Recommendations = {}
    for task in state.delays.take_due(state.now):
        if not task._waiting_on:
            recommendations[task] = "processing"
    return recommendations
