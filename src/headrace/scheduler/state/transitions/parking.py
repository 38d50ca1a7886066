"""To queued and no-worker: a task that is ready and that no worker has room for, or that none may run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState

    from .engine import Recommendations


def to_queued(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Let a root-like task wait here until some worker has room for it."""
    if task.state == "no-worker":
        del state.unrunnable[task]
    state.move(task, "queued")
    state.queued.push(task)


def to_no_worker(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Let a task that no worker may run now wait for one that may, for as long as `no-workers-timeout` allows."""
    if task.state == "queued":
        state.queued.left()
    state.unrunnable[task] = state.now
    state.move(task, "no-worker")


def unpark(state: SchedulerCore, task: TaskState, finish: str) -> None:
    """Move a task from queued or no-worker, where it waited for a worker, to another state."""
    if task.state == "queued":
        state.move(task, finish)
        state.queued.left()  # once its state has changed: the queue skips entries by that
    else:
        del state.unrunnable[task]
        state.move(task, finish)
