"""Runs that are interrupted, and not only called off, when a client cancels with `running`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from headrace.common.keys import Key
from headrace.messages.worker import InterruptTasks
from headrace.scheduler.state.placing.assignments import is_current

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState

#: A task, the worker it is on, and the number of that assignment.
Placed: TypeAlias = "tuple[TaskState, WorkerState, int]"


def placed_tasks(state: SchedulerCore, keys: Iterable[Key]) -> list[Placed]:
    """Of these, and of what depends on them or is needed for nothing else, what is on a worker now."""
    found: list[Placed] = []
    pending = [task for key in keys if (task := state.tasks.get(key)) is not None]
    seen = set(pending)
    while pending:
        task = pending.pop()
        if task.processing_on is not None:
            found.append((task, task.processing_on, task.attempt))
        for other in (*(task._dependents or ()), *(task._waiting_on or ())):
            if other not in seen:
                seen.add(other)
                pending.append(other)
    return found


def interrupt_called_off(state: SchedulerCore, placed: Iterable[Placed], force: bool) -> None:
    """Have those of the assignments stopped that have been called off, which their workers have been told."""
    keys: dict[WorkerState, list[Key]] = {}
    for task, worker, attempt in placed:
        if not is_current(task, worker, attempt) and worker.address in state.workers:
            keys.setdefault(worker, []).append(task.key)
    for worker, called_off in keys.items():
        state.send(worker, InterruptTasks(called_off, force))
