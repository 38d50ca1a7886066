"""Towards a result: released → waiting → (queued, no-worker) → processing → memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.messages.client import KeyInMemory
from headrace.scheduler.state.flow.interest import let_go_when_done
from headrace.scheduler.state.placing import placement
from headrace.scheduler.state.placing.promises import (
    end_unfinished,
    join_chain,
    keep,
    note_result,
)

from .engine import Recommendations

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState


def released_wanted(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Wait, unless whoever asked for it has let go of it in the same wave."""
    if task.who_wants or task._waiters:
        released_waiting(state, task, recommendations)
    elif not task._dependents:
        recommendations[task] = "forgotten"


def released_waiting(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Someone wants the result: ask for what it needs, or run it if nothing is missing."""
    if task.function is None:
        # Data that was scattered, and whose last copy is gone: nothing can compute it again.
        recommendations[task] = "forgotten"
        return
    missing: set[TaskState] | None = None
    for dependency in task._dependencies:
        if dependency.state == "erred":
            recommendations[task] = "erred"
            return
        if dependency.state == "forgotten":
            recommendations[task] = "forgotten"
            return
    for dependency in task._dependencies:
        if dependency._waiters is None:
            dependency._waiters = {task}
        else:
            dependency._waiters.add(task)
        if not dependency.who_has:
            if missing is None:
                missing = set()
            missing.add(dependency)
            if dependency.state == "released":
                recommendations[dependency] = "waiting"
    task._waiting_on = missing
    state.move(task, "waiting")
    if missing is None:
        recommendations[task] = "processing"
    elif len(task._dependencies) == 1:
        join_chain(state, task)


def to_processing(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Place the task on a worker; park it as queued or no-worker if none has room or may run it."""
    if task._waiting_on:
        return  # a dependency was lost in the same wave; its return runs the task
    if state.promises.workers and keep(state, task):
        return
    rare = task._rare
    if rare is not None and rare.retry_at > state.now and task.state == "waiting":
        state.delays.add(task, rare.retry_at)  # it goes on waiting, for its time
        return
    placement.place(state, task)


def to_memory(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """A result has come (the replica is recorded already): run those who waited, let go of what it needed."""
    start = task.state
    if start == "processing":
        worker = task.processing_on
        if worker is not None:
            end_unfinished(state, worker, task)
            if worker not in task.who_has:
                state.free(worker, task.key)
    elif start == "queued":
        state.queued.left()
    elif start == "no-worker":
        del state.unrunnable[task]
    elif start == "waiting":
        state.delays.discard(task)
        if state.promises.workers:
            note_result(state, task)
    task._waiting_on = None
    recommendations.pop(task, None)  # what it waited for may have come in the same wave
    finish(state, task, None, recommendations)


def finish(state: SchedulerCore, task: TaskState, result: object, recommendations: Recommendations) -> None:
    """The result is held and the task accounted for as off its worker: tell, wake and let go."""
    state.move(task, "memory")
    if task.who_wants:
        tell_in_memory(state, task, result)
    if task._dependencies:
        let_go_of_dependencies(task, recommendations)
    waiters = task._waiters
    if waiters:
        wake(waiters, task, recommendations)
    elif not task.who_wants:
        recommendations[task] = "released" if task._dependents else "forgotten"
    if state.until_done.wants_what:
        let_go_when_done(state, task, recommendations)


def tell_in_memory(state: SchedulerCore, task: TaskState, result: object) -> None:
    """Tell the clients that want it."""
    for client in task.who_wants:
        if not client.silent:
            state.send(client, KeyInMemory(task.key, task.type, None if client.slow else result))


def wake(waiters: set[TaskState], task: TaskState, recommendations: Recommendations) -> None:
    """Run those that waited for this task only."""
    for waiter in waiters if len(waiters) == 1 else sorted(waiters):
        waiting_on = waiter._waiting_on
        if waiting_on:
            waiting_on.discard(task)
            if not waiting_on and waiter.state == "waiting":
                waiter._waiting_on = None
                if recommendations.get(waiter, "waiting") == "waiting":  # else it errs, or nobody wants it any more
                    recommendations[waiter] = "processing"


def let_go_of_dependencies(task: TaskState, recommendations: Recommendations) -> None:
    """The task no longer needs its dependencies: release those that nobody else needs."""
    for dependency in task._dependencies:
        waiters = dependency._waiters
        if waiters is not None:
            waiters.discard(task)
            if not waiters:
                dependency._waiters = None
                if not dependency.who_wants and dependency.state != "erred":
                    recommendations[dependency] = "released"
