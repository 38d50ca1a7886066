"""The one place where a task's state changes: `transition` looks the pair up in the table, makes the move, notes it.

Tasks that may have become unneeded, or needed, wait in `loose` until `settle` deals with them at the end of the event:
a message may free a task before the one that it needs, and both must go all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, get_args

from headrace.common.keys import Key

from .data_moves import Step
from .tasks import StateName, TaskState
from .transition_table import TABLE

if TYPE_CHECKING:
    from .core import WorkerCore

#: The table, by state and next state: looking a pair up must not cost a new tuple, with every task.
_STEPS: dict[StateName, dict[StateName, Step]] = {start: {} for start in get_args(StateName)}
for (_start, _finish), _step in TABLE.items():
    _STEPS[_start][_finish] = _step

#: `(key, start, asked, reached, type of the message or event, seconds since the epoch)`
LogLine: TypeAlias = tuple[Key, str, str, str, type, float]


class InvalidTransition(Exception):
    """A defect: a pair that the table does not have.

    Args:
        key, start, finish: the task, the state it was in, and the one it was to go to.
        story: what happened to it before.
    """

    def __init__(self, key: Key, start: str, finish: str, story: list[LogLine]) -> None:
        self.key = key
        self.start = start
        self.finish = finish
        self.story = story
        super().__init__(key, start, finish, story)

    def __str__(self) -> str:
        lines = "\n  ".join(map(repr, self.story))
        return f"{self.key!r} cannot go from {self.start} to {self.finish}; its story:\n  {lines}"

    def to_event(self) -> tuple[str, dict[str, object]]:
        """A topic and a message for `log_event`."""
        return "invalid-worker-transition", {
            "key": self.key,
            "start": self.start,
            "finish": self.finish,
            "story": self.story,
        }


class TransitionCounterMaxExceeded(InvalidTransition):
    """There were more transitions than `transition_counter_max` allows: tasks seem to go in circles."""

    def __str__(self) -> str:
        return f"more transitions than allowed, at {super().__str__()}"

    def to_event(self) -> tuple[str, dict[str, object]]:
        """A topic and a message for `log_event`."""
        _, message = super().to_event()
        return "transition-counter-max-exceeded", message


def transition(state: WorkerCore, task: TaskState, finish: StateName) -> None:
    """Bring a task to a state, and other tasks to where that takes them.

    Raises:
        InvalidTransition: the table does not have the pair; with the task's story.
        TransitionCounterMaxExceeded: there have been too many moves.
    """
    todo: list[tuple[TaskState, StateName]] | None = None
    while True:
        start = task.state
        if start != finish:
            try:
                step = _STEPS[start][finish]
            except KeyError:
                raise InvalidTransition(task.key, start, finish, state.story(task.key)) from None
            state.transition_counter = count = state.transition_counter + 1
            if state.transition_counter_max and count > state.transition_counter_max:
                raise TransitionCounterMaxExceeded(task.key, start, finish, state.story(task.key))
            follow = step(state, task)
            reached = task.state
            state.log.append((task.key, start, finish, reached, state.stimulus, state.now))
            if state.watched and reached != start:
                state.outbox.transitions.append((task.key, start, reached))
            if follow:
                todo = [*(todo or ()), *reversed(follow)]
        if not todo:
            return
        task, finish = todo.pop()


def settle(state: WorkerCore) -> None:
    """Deal with the tasks that became unneeded or needed during an event."""
    loose = state.loose
    while loose:
        task = loose.pop()
        finish = settled(task)
        # a task in `loose` may have been forgotten, and its key may have another record since
        if finish is not None and state.tasks.get(task.key) is task:
            transition(state, task, finish)
            if task.state in ("released", "error"):
                loose.append(task)


def settled(task: TaskState) -> StateName | None:
    """The state that a loose task is to go to; None when it may stay."""
    needed = bool(task.waiters) or task.replica
    match task.state:
        case "released":
            if needed:
                return "fetch"
            return None if task.dependents else "forgotten"
        case "missing" if needed and task.who_has:
            return "fetch"
        case "missing" if not task.waiters:  # the scheduler wants a copy that nobody can give: not worth asking for
            task.replica = False
            return "released"
        case "fetch" if not needed:
            return "released"
        case "flight" if not needed:
            return "cancelled"
        case "cancelled" if needed:
            return "flight" if task.previous == "flight" else "resumed"
        case "resumed" if not needed and task.next == "fetch":
            return "cancelled"
        case "error" if needed:  # the failed run is over; a peer may have the data
            return "released"
    return None
