"""Whether what a worker says is about an assignment that still holds.

Each assignment of a task to a worker has a number, its attempt, and the worker's answers repeat it. An answer to one
that has been taken back may come late, and may come for a task that is with the same worker again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState


def is_current(task: TaskState | None, worker: WorkerState, attempt: int) -> TypeGuard[TaskState]:
    """Whether the task is processing on this worker, by this assignment."""
    return task is not None and task.attempt == attempt and task.processing_on is worker


def is_promised(
    task: TaskState | None, worker: WorkerState, attempt: int, state: SchedulerCore
) -> TypeGuard[TaskState]:
    """Whether the task waits, and has been sent to this worker ahead by this assignment."""
    return task is not None and task.attempt == attempt and state.promises.workers.get(task) is worker
