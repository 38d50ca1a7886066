"""Towards a result: released → waiting → (queued, no-worker) → processing → memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.scheduler.state.flow.client_news import tell_in_memory
from headrace.scheduler.state.flow.interest import let_go_when_done
from headrace.scheduler.state.placing import placement
from headrace.scheduler.state.placing.load import end_processing
from headrace.scheduler.state.placing.promises import (
    end_unfinished,
    join_chain,
    keep,
    note_result,
)

if TYPE_CHECKING:
    from headrace.messages.base import Payload
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState

    from .engine import Recommendations


def released_waiting(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Have the task wait, unless whoever asked for it has let go of it in the same wave."""
    if task.who_wants or task._waiters:
        begin_waiting(state, task, recommendations)
    elif not task._dependents:
        recommendations[task] = "forgotten"


def begin_waiting(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Ask for what a wanted task needs, or run it if nothing is missing."""
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
    if state.chosen and (worker := state.chosen.pop(task, None)) is not None:
        placement.assign(state, task, worker)
        return
    if task._waiting_on:
        return  # a dependency was lost in the same wave; its return runs the task
    if state.promises.workers and keep(state, task):
        return
    rare = task._rare
    if rare is not None and rare.retry_at > state.now and task.state == "waiting":
        state.delays.add(task, rare.retry_at)  # it goes on waiting, for its time
        return
    placement.place(state, task, recommendations)


def to_another_worker(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Move a task that its worker has given back to the thief that was chosen for it."""
    thief, victim = state.chosen.pop(task, None), task.processing_on
    if thief is None or victim is None:
        return  # the task was to run, and runs already
    end_unfinished(state, victim, task)
    placement.assign(state, task, thief)


# To memory. The replica is recorded already.


def processing_memory(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """The task's worker has finished it, or its result came from elsewhere and it is called off there."""
    worker = task.processing_on
    result: Payload = None
    if worker is not None:
        if task in state.finished:
            result = state.finished.pop(task)
            end_processing(state, worker, task)
        else:
            end_unfinished(state, worker, task)
            if worker not in task.who_has:
                state.free(worker, task.key)
    _arrive(state, task, result, recommendations)


def waiting_memory(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """The result of a waiting task has come: late from a worker that had it before, promised, or scattered."""
    state.delays.discard(task)
    if state.promises.workers:
        note_result(state, task)
    task._waiting_on = None
    _arrive(state, task, None, recommendations)


def parked_memory(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """The result of a queued or no-worker task has come late from a worker that had it before, or was scattered."""
    if task.state == "queued":
        state.queued.left()
    else:
        del state.unrunnable[task]
    _arrive(state, task, None, recommendations)


def released_memory(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """A client has scattered data under the key of a task that nobody runs, or that is new."""
    _arrive(state, task, None, recommendations)


def _arrive(state: SchedulerCore, task: TaskState, result: Payload, recommendations: Recommendations) -> None:
    recommendations.pop(task, None)  # what it waited for may have come in the same wave
    finish(state, task, result, recommendations)


def finish(state: SchedulerCore, task: TaskState, result: Payload, recommendations: Recommendations) -> None:
    """Move a task whose result is held, and which is off its worker's account, to memory: tell, wake and let go.

    Args:
        result: the pickled result, if it came with the report and is small.
    """
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


def wake(waiters: set[TaskState], task: TaskState, recommendations: Recommendations) -> None:
    """Run the tasks that waited for this one only."""
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
