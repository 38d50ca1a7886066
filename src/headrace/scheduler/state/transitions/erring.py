"""To erred, for the task that failed and all that depend on it, and back when it is tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.messages.client import TaskRetried
from headrace.scheduler.state.checks.story import ErredTask
from headrace.scheduler.state.flow.client_news import tell_erred
from headrace.scheduler.state.flow.interest import let_go_when_done
from headrace.scheduler.state.placing.promises import end_unfinished

from .releasing import memory_released
from .running import let_go_of_dependencies

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState

    from .engine import Recommendations


def processing_erred(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """The task raised (its record has the exception), or what it depends on was lost and raised when it ran again."""
    worker = task.processing_on
    if worker is not None:
        end_unfinished(state, worker, task)
        if worker.address in state.workers:
            state.free(worker, task.key)
    rare = task.rare
    if not has_failed(task):
        rare.exception_blame = _cause_of(task)
    if rare.exception_blame is None:
        rare.exception_blame = task
        failure = ErredTask(task.key, state.shown, set(rare.erred_on), rare.exception_text, rare.traceback_text)
        state.erred_tasks.append(failure)
    _err(state, task, recommendations)


def has_failed(task: TaskState) -> bool:
    """Whether the task has raised, or is blamed for deaths, and has not been tried again since."""
    return task.exception is not None or bool(task.exception_text)


def _cause_of(task: TaskState) -> TaskState | None:
    """Task whose failure this one shares, or `None`: a dependency whose own cause is being tried again soon is, too."""
    for dependency in task._dependencies:
        blame = dependency.exception_blame
        if dependency.state == "erred" and blame is not None and has_failed(blame):
            return blame
    return None


def released_erred(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """A dependency failed, or the task itself did before it could run."""
    if task.exception_blame is None:
        blame = _cause_of(task)
        if blame is None:
            # What failed is being tried again.
            if task.who_wants or task._waiters:
                recommendations[task] = "waiting"
            return
        task.rare.exception_blame = blame
    _err(state, task, recommendations)


def memory_erred(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """The worker of an actor is gone, and the actor's state with it; or something it was computed from failed anew."""
    memory_released(state, task, recommendations)
    recommendations.pop(task, None)
    if task.state != "released":
        return  # somebody has it and needs it
    running = [waiter for waiter in task._waiters or () if waiter.state == "processing"]
    released_erred(state, task, recommendations)
    for waiter in running:
        recommendations[waiter] = "released"  # called off first; then it shares the failure


def _err(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    let_go_of_dependencies(task, recommendations)
    state.move(task, "erred")
    tell_erred(state, task)
    for dependent in task._dependents or ():
        if dependent.state not in ("erred", "memory", "forgotten", "released") or dependent.who_wants:
            recommendations[dependent] = "erred"
    task._waiters = None
    if not task.who_wants and not task._dependents:
        recommendations[task] = "forgotten"
    if state.until_done.wants_what:
        let_go_when_done(state, task, recommendations)


def erred_released(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Try again, or go."""
    rare = task.rare
    rare.exception = rare.traceback = rare.exception_blame = None
    rare.exception_text = rare.traceback_text = ""
    rare.retry_at = 0.0
    state.move(task, "released")
    for client in task.who_wants:
        if not client.silent:
            state.send(client, TaskRetried(task.key))
    for dependent in task._dependents or ():
        if dependent.state == "erred":
            recommendations[dependent] = "waiting" if dependent.who_wants or dependent._waiters else "released"
    if task.who_wants or task._waiters:
        recommendations[task] = "waiting"
    elif not task._dependents:
        recommendations[task] = "forgotten"
