"""Moves of data: released, fetch, flight, missing, memory, forgotten.

Each function is the move of one or several pairs in `transition_table`. It changes records and the outbox, and returns
the moves of other tasks that follow from it. Only `mover.transition` calls these functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from . import fetch_queues
from .dependency_links import await_data, detach
from .tasks import NOTHING, StateName, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

    from .core import WorkerCore

#: Moves that follow from a move, in order; None for none.
Follow: TypeAlias = list[tuple[TaskState, StateName]] | None
Step: TypeAlias = "Callable[[WorkerCore, TaskState], Follow]"


def enter_memory(state: WorkerCore, task: TaskState) -> Follow:
    """* → memory: the shell has stored the value, and `task.nbytes` is set; tasks that waited only for it are ready.

    Every result, and every copy, is recorded here and nowhere else.
    """
    task.state = "memory"
    task.previous = task.next = None
    state.in_memory += 1
    task.stored = state.stored = state.stored + 1
    if task.nbytes > 0:
        state.nbytes += task.nbytes
    if task.who_has:
        fetch_queues.clear_holders(state, task)
    if task.dependencies:
        detach(state, task)
    task.function = task.arguments = None
    waiters = task.waiters
    if not waiters:
        return None
    task.waiters = NOTHING
    follow: list[tuple[TaskState, StateName]] = []
    for waiter in waiters:
        waiter.waiting_for_data.discard(task)
        if not waiter.waiting_for_data and waiter.state == "waiting":
            follow.append((waiter, "ready"))
    return follow


def enter_released(state: WorkerCore, task: TaskState) -> Follow:
    """* → released: the scheduler wants no run of it here any more; `settle` decides whether its data are fetched."""
    task.state = "released"
    task.previous = task.next = None
    detach(state, task)
    forget_run(task)
    state.loose.append(task)
    return None


def forget_run(task: TaskState) -> None:
    """Turn the record into one of mere data: this worker was not asked to compute the task."""
    task.attempt = -1
    task.function = task.arguments = None
    task.resource_restrictions = None


def released_fetch(state: WorkerCore, task: TaskState) -> Follow:
    """released → fetch: a task here needs the data, or the scheduler wants a copy; missing if no peer holds them."""
    if not task.who_has:
        return [(task, "missing")]
    task.state = "fetch"
    fetch_queues.queue(state, task, task.who_has)
    return None


def released_missing(state: WorkerCore, task: TaskState) -> Follow:
    """released → missing: no peer is known to hold the data, and the scheduler is asked who does.

    A copy that no task here needs stays released: it is not worth asking for.
    """
    if task.replica and not task.waiters:
        task.replica = False
        state.loose.append(task)
        return None
    task.state = "missing"
    state.missing_dep_flight.add(task)
    # Only the first round asks at once, later ones wait for `FindMissing`: the scheduler may go on naming a holder that
    # fails at once, and core and scheduler would ask each other in a loop.
    if task.suspicious_count <= 1:
        state.requested.append(task.key)
    return None


def released_forgotten(state: WorkerCore, task: TaskState) -> Follow:
    """released → forgotten: no task here and no wish of the scheduler's holds the record."""
    fetch_queues.clear_holders(state, task)
    task.state = "forgotten"
    del state.tasks[task.key]
    return None


def after(leave: Callable[[WorkerCore, TaskState], None], then: Step) -> Step:
    """The move that first leaves a state, by one function for all moves out of it, and then goes on as another does."""

    def step(state: WorkerCore, task: TaskState) -> Follow:
        leave(state, task)
        return then(state, task)

    step.__name__ = f"{leave.__name__}, {then.__name__}"  # the drawn tables show it
    return step


def leave_missing(state: WorkerCore, task: TaskState) -> None:
    """missing → *: the task is no longer among those that `FindMissing` asks for."""
    state.missing_dep_flight.discard(task)


def fetch_flight(state: WorkerCore, task: TaskState) -> Follow:
    """fetch → flight: the peer `task.coming_from` is asked for the data."""
    task.state = "flight"
    state.in_flight_tasks.add(task)
    return None


def flight_fetch(state: WorkerCore, task: TaskState) -> Follow:
    """flight → fetch: the peer did not send the data; fetch → missing: the last known holder is gone."""
    task.state = "released"
    return released_fetch(state, task)


def flight_cancelled(state: WorkerCore, task: TaskState) -> Follow:
    """flight → cancelled: nothing needs the data any more; the peer's answer is awaited all the same."""
    task.previous = "flight"
    task.state = "cancelled"
    if task.waiters:
        state.loose.append(task)
    return None


def memory_released(state: WorkerCore, task: TaskState) -> Follow:
    """memory → released: the shell drops the value; queued tasks that need it wait for it again."""
    drop_value(state, task)
    follow: list[tuple[TaskState, StateName]] = []
    enter_released(state, task)
    for dependent in task.dependents:
        if dependent.state in ("ready", "constrained"):
            follow.append((dependent, "waiting"))
        elif dependent.state == "waiting" or (dependent.state == "resumed" and dependent.next == "waiting"):
            await_data(state, dependent)
    return follow


def memory_forgotten(state: WorkerCore, task: TaskState) -> Follow:
    """memory → forgotten: the shell drops the value, and nothing here has ever to do with the task again."""
    drop_value(state, task)
    task.state = "forgotten"
    del state.tasks[task.key]
    return None


def drop_value(state: WorkerCore, task: TaskState) -> None:
    """Have the shell drop a value, and subtract it from the totals."""
    state.outbox.free.append(task.key)
    state.in_memory -= 1
    if task.nbytes > 0:
        state.nbytes -= task.nbytes
