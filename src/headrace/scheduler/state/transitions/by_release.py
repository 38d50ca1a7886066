"""Moves that release a task first: what held it in its state is given back in one way only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState

    from .engine import Recommendations

#: The function of one or several rows of the table.
Row: TypeAlias = Callable[["SchedulerCore", "TaskState", "Recommendations"], None]


def by_release(release: Row, then: Row) -> Row:
    """The row that is two others, one after the other; each writes its line into the story.

    The recommendation of the first for the task itself is dropped: the second says what comes next.
    """

    def row(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
        release(state, task, recommendations)
        recommendations.pop(task, None)
        then(state, task, recommendations)

    row.__name__ = f"{release.__name__}, {then.__name__}"  # the drawn tables show it
    return row
