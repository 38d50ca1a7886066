"""Back to released: the result is dropped or the work called off; whoever still needs it starts over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.messages.client import LostData
from headrace.scheduler.state.data.replicas import drop_all_replicas
from headrace.scheduler.state.placing.promises import end_unfinished, withdraw

from .engine import Recommendations
from .running import let_go_of_dependencies

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState


def _then(task: TaskState, recommendations: Recommendations) -> None:
    """What a released task does next: run again if someone needs it, go if nobody knows it.

    It comes before it lets go of what it needs, so that it asks for that again before it is dropped.
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
    """Nobody waits for it any more."""
    state.delays.discard(task)
    if state.promises.workers:
        withdraw(state, task)
    task._waiting_on = None
    state.move(task, "released")
    _then(task, recommendations)
    let_go_of_dependencies(task, recommendations)


def parked_released(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """From queued or no-worker."""
    if task.state == "queued":
        state.move(task, "released")
        state.queued.left()
    else:
        del state.unrunnable[task]
        state.move(task, "released")
    _then(task, recommendations)
    let_go_of_dependencies(task, recommendations)


def processing_released(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Call it off on its worker, if that is still there."""
    worker = task.processing_on
    if worker is not None:
        end_unfinished(state, worker, task)
        if worker.address in state.workers:
            state.free(worker, task.key)
    state.move(task, "released")
    _then(task, recommendations)
    let_go_of_dependencies(task, recommendations)
