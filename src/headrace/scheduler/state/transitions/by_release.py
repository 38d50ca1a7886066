"""Rows that release a task first and then move it on: what held it in its state is given back in one way only.

Both halves are rows of their own, and each writes its line into the story. What the first half recommends for the task
itself is dropped: the second half says what comes next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .erring import erred_released, released_erred
from .forgetting import released_forgotten
from .releasing import parked_released, processing_released, waiting_released
from .running import released_memory, released_waiting

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState

    from .engine import Recommendations


def waiting_erred(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Something that the task waits for has erred, and so does the task."""
    waiting_released(state, task, recommendations)
    recommendations.pop(task, None)
    released_erred(state, task, recommendations)


def parked_erred(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """A task in no-worker has waited too long for a worker, or the actor that a task here needs is lost."""
    parked_released(state, task, recommendations)
    recommendations.pop(task, None)
    released_erred(state, task, recommendations)


def processing_waiting(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """The task failed and has retries left: it waits again, for its time if its retry policy sets one."""
    processing_released(state, task, recommendations)
    recommendations.pop(task, None)
    released_waiting(state, task, recommendations)


def erred_waiting(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """The task whose failure this one shares is tried again, and somebody wants this one."""
    erred_released(state, task, recommendations)
    recommendations.pop(task, None)
    released_waiting(state, task, recommendations)


def erred_memory(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """A client has scattered data under the key of a task that erred."""
    erred_released(state, task, recommendations)
    recommendations.pop(task, None)
    released_memory(state, task, recommendations)


def waiting_forgotten(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """The last client that wanted the waiting task has let go of it, or what it needs is lost for good."""
    waiting_released(state, task, recommendations)
    recommendations.pop(task, None)
    released_forgotten(state, task, recommendations)


def parked_forgotten(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """The last client that wanted the queued or no-worker task has let go of it."""
    parked_released(state, task, recommendations)
    recommendations.pop(task, None)
    released_forgotten(state, task, recommendations)


def processing_forgotten(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """The last client that wanted the task has let go of it while a worker has it: the worker is told to drop it."""
    processing_released(state, task, recommendations)
    recommendations.pop(task, None)
    released_forgotten(state, task, recommendations)


def erred_forgotten(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """The last client that wanted the erred task has let go of it."""
    erred_released(state, task, recommendations)
    recommendations.pop(task, None)
    released_forgotten(state, task, recommendations)
