"""Back to released: the result is dropped or the work called off; whoever still needs it starts over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.messages.client import LostData
from headrace.scheduler.state.data.replicas import drop_all_replicas
from headrace.scheduler.state.placing.promises import end_unfinished, withdraw

from .parking import unpark
from .running import let_go_of_dependencies

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState

    from .engine import Recommendations


def _then(task: TaskState, recommendations: Recommendations) -> None:
    """Recommend what a released task does next: wait if someone needs it, be forgotten if nobody knows it.

    Callers do this before the task lets go of its dependencies: it then asks for them again before they are dropped.
    """
    if task.who_wants or task._waiters:
        recommendations[task] = "waiting"
    elif not task._dependents:
        recommendations[task] = "forgotten"


def memory_released(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Drop the result everywhere (or: its last copy is gone)."""
    if task.who_has and (task._waiters or task.who_wants):
        return  # somebody has asked for it in the same wave
    drop_all_replicas(state, task)
    state.move(task, "released")
    for waiter in task._waiters or ():
        if waiter.state in ("no-worker", "processing", "queued"):
            recommendations[waiter] = "released"
        elif waiter.state == "waiting":
            if waiter._waiting_on is None:
                waiter._waiting_on = {task}
            else:
                waiter._waiting_on.add(task)
            if recommendations.get(waiter) == "processing":
                del recommendations[waiter]
    for client in task.who_wants:
        if not client.silent:
            state.send(client, LostData(task.key))
    _then(task, recommendations)


def waiting_released(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Nobody waits for the task any more."""
    state.delays.discard(task)
    if state.promises.workers:
        withdraw(state, task)
    task._waiting_on = None
    state.move(task, "released")
    _then(task, recommendations)
    let_go_of_dependencies(task, recommendations)


def parked_released(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Nobody waits for the queued or no-worker task any more, or what it needs is lost."""
    unpark(state, task, "released")
    _then(task, recommendations)
    let_go_of_dependencies(task, recommendations)


def processing_released(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Call the task off on its worker, if that is still there."""
    worker = task.processing_on
    if worker is not None:
        end_unfinished(state, worker, task)
        if worker.address in state.workers:
            state.free(worker, task.key)
    state.move(task, "released")
    _then(task, recommendations)
    let_go_of_dependencies(task, recommendations)
