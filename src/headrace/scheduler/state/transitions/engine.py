"""Runs transitions until none is left.

Recommendations are taken in waves, each in the order in which they were made; a transition function changes the
state of its own task only, so within a wave no recommendation is about a state that has passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from .table import TABLE

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState

#: Task → the state that it should move to; the latest word on a task counts.
Recommendations: TypeAlias = "dict[TaskState, str]"


class UnknownTransition(Exception):
    """A task was to move between two states that the table does not connect; carries the task's story."""

    def __init__(self, state: SchedulerCore, task: TaskState, finish: str) -> None:
        story = "\n  ".join(str(line) for line in state.story(task.key))
        super().__init__(
            f"no transition from {task.state!r} to {finish!r} for task {task.key!r}; its story:\n  {story}"
        )


def run_transitions(state: SchedulerCore, recommendations: Recommendations) -> None:
    """Move tasks as recommended, and as that recommends in turn, until nothing is left.

    Raises:
        UnknownTransition: the table does not connect two states.
    """
    while recommendations:
        wave, recommendations = recommendations, {}
        for task, finish in wave.items():
            function = TABLE.get((task.state, finish))
            if function is not None:
                function(state, task, recommendations)
            elif task.state != finish:
                raise UnknownTransition(state, task, finish)


def run_one(state: SchedulerCore, task: TaskState, finish: str) -> Recommendations:
    """Move one task, and nothing else; returns what is to follow.

    Raises:
        UnknownTransition: the table does not connect the two states.
    """
    recommendations: Recommendations = {}
    function = TABLE.get((task.state, finish))
    if function is not None:
        function(state, task, recommendations)
    elif task.state != finish:
        raise UnknownTransition(state, task, finish)
    return recommendations


def run_as_documented(state: SchedulerCore, task: TaskState, finish: str) -> Recommendations:
    """Move one task for a caller of the documented `Scheduler.transition`, who may ask for pairs that never occur here.

    Such a pair goes by way of `released`, as documented: two rows, one after the other.

    Raises:
        UnknownTransition: the table does not connect the two states in this way either.
    """
    if (task.state, finish) in TABLE or task.state == finish:
        return run_one(state, task, finish)
    if (task.state, "released") not in TABLE or ("released", finish) not in TABLE:
        raise UnknownTransition(state, task, finish)
    recommendations = run_one(state, task, "released")
    recommendations.pop(task, None)  # the caller says what comes next
    if task.state == "released":
        recommendations.update(run_one(state, task, finish))
    return recommendations
