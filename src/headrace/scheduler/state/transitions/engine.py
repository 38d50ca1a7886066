"""Runs transitions until none is left.

Recommendations are taken in waves, each in the order in which they were made; a transition function changes the
state of its own task only, so within a wave no recommendation is about a state that has passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

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
        UnknownTransition: the table connects the two states neither directly nor by way of `released`.
    """
    from .table import TABLE

    while recommendations:
        wave, recommendations = recommendations, {}
        for task, finish in wave.items():
            start = task.state
            if start == finish:
                continue
            function = TABLE.get((start, finish))
            if function is not None:
                function(state, task, recommendations)
            else:
                _by_way_of_released(state, task, finish, recommendations)


def run_one(state: SchedulerCore, task: TaskState, finish: str) -> Recommendations:
    """Move one task, and nothing else; returns what is to follow.

    Raises:
        UnknownTransition: the table connects the two states neither directly nor by way of `released`.
    """
    from .table import TABLE

    recommendations: Recommendations = {}
    if task.state != finish:
        function = TABLE.get((task.state, finish))
        if function is not None:
            function(state, task, recommendations)
        else:
            _by_way_of_released(state, task, finish, recommendations)
    return recommendations


def _by_way_of_released(state: SchedulerCore, task: TaskState, finish: str, recommendations: Recommendations) -> None:
    from .table import TABLE

    if task.state == "forgotten":
        return  # forgotten in an earlier wave; nothing is left to move
    first = TABLE.get((task.state, "released"))
    second = TABLE.get(("released", finish))
    if first is None or second is None:
        raise UnknownTransition(state, task, finish)
    first(state, task, recommendations)
    recommendations.pop(task, None)
    if task.state == "released":
        second(state, task, recommendations)
