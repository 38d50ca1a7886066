"""Links between a task and its dependencies: `dependencies` and `dependents`, `waiting_for_data` and `waiters`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .tasks import NOTHING, TaskState

if TYPE_CHECKING:
    from .core import WorkerCore


def attach(state: WorkerCore, task: TaskState, dependencies: Iterable[TaskState], wait: bool) -> None:
    """Note what a task needs; with `wait`, get what is not here."""
    if task.dependencies:  # those of an earlier assignment
        detach(state, task)
    task.dependencies = set(dependencies)
    for dependency in task.dependencies:
        if dependency.dependents:
            dependency.dependents.add(task)
        else:
            dependency.dependents = {task}
    if wait:
        await_data(state, task)


def await_data(state: WorkerCore, task: TaskState) -> None:
    """Make a task wait for those of its dependencies that are not here."""
    absent = {dependency for dependency in task.dependencies if dependency.state != "memory"}
    task.waiting_for_data = absent or NOTHING
    for dependency in absent:
        if dependency.waiters:
            dependency.waiters.add(task)
        else:
            dependency.waiters = {task}
        if task.priority < dependency.priority and dependency.attempt < 0:
            dependency.priority = task.priority
        state.loose.append(dependency)


def detach(state: WorkerCore, task: TaskState) -> None:
    """A task needs its dependencies no longer."""
    for dependency in task.dependencies:
        dependency.dependents.discard(task)
        if dependency.waiters:
            dependency.waiters.discard(task)
        if dependency.state != "memory":
            state.loose.append(dependency)
    task.dependencies = NOTHING
    task.waiting_for_data = NOTHING
