"""To forgotten: the record goes, and with it what was kept only for its sake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.messages.client import CancelledKeys
from headrace.messages.worker import ForgetFunction
from headrace.scheduler.state.data.replicas import drop_all_replicas
from headrace.scheduler.state.records.tasks import LOST, NOTHING

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState

    from .engine import Recommendations


def released_forgotten(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Nobody wants the task and nothing depends on it, or what it needs is lost for good: drop its record."""
    state.move(task, "forgotten")
    for dependency in task._dependencies:
        dependents = dependency._dependents
        if dependents is not None:
            dependents.discard(task)
            if not dependents:
                dependency._dependents = None
        if dependency._waiters is not None:
            dependency._waiters.discard(task)
            if not dependency._waiters:
                dependency._waiters = None
        if not dependency.who_wants:
            if not dependency._dependents:
                recommendations[dependency] = "forgotten"
            elif not dependency._waiters and dependency.state not in ("erred", "released"):
                recommendations[dependency] = "released"
    for dependent in task._dependents or ():
        if dependent.state not in ("memory", "erred", "forgotten"):
            recommendations[dependent] = "forgotten"
    for client in task.who_wants:
        client.wants_what.discard(task)
        if not client.silent:
            state.send(client, CancelledKeys([task.key], LOST))
    task.who_wants = NOTHING
    let_go_of_function(state, task)
    if state.staying:
        state.staying.discard(task)
    state.tasks.forget(task)


def forget_result(state: SchedulerCore, task: TaskState) -> None:
    """Memory → forgotten for a result that nobody wants and that has to do with no other task: most results."""
    drop_all_replicas(state, task)
    state.move(task, "forgotten")
    let_go_of_function(state, task)
    if state.staying:
        state.staying.discard(task)
    state.tasks.forget(task)


def let_go_of_function(state: SchedulerCore, task: TaskState) -> None:
    """The task does not use its function any more."""
    if task.function is not None:
        for function in state.functions.release(task.function):
            for worker in function.known_by:
                state.send(worker, ForgetFunction(function.number))


def stay_forgotten(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Leave the task forgotten: a neighbour recommended something before the task went in the same wave."""


def memory_forgotten(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Drop the result everywhere, and the record."""
    drop_all_replicas(state, task)
    released_forgotten(state, task, recommendations)
