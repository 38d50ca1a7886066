"""Every change of a task's state: a literal table of (start, finish), and the functions it names.

A function changes records and the outbox and returns what follows from it; `transition` goes on until nothing does.
Tasks that may have become unneeded, or needed, are put into `loose` and dealt with at the end of the event by `settle`:
what one message frees in any order is freed together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from headrace.common.keys import Key
from headrace.messages.worker import TaskFailed, TaskFinished

from . import computing, gathering
from .tasks import NOTHING, StateName, TaskState

if TYPE_CHECKING:
    from .core import WorkerState

Follow: TypeAlias = list[tuple[TaskState, StateName]] | None
Step: TypeAlias = "Callable[[WorkerState, TaskState], Follow]"


class InvalidTransition(Exception):
    """A defect: a pair that the table does not have.

    Args:
        key, start, finish: the task, the state it was in, and the one it was to go to.
        story: what happened to it before.
    """

    def __init__(self, key: Key, start: str, finish: str, story: list[tuple[Any, ...]]) -> None:
        self.key = key
        self.start = start
        self.finish = finish
        self.story = story
        super().__init__(key, start, finish, story)

    def __str__(self) -> str:
        lines = "\n  ".join(map(repr, self.story))
        return f"{self.key!r} cannot go from {self.start} to {self.finish}; its story:\n  {lines}"

    def to_event(self) -> tuple[str, dict[str, Any]]:
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

    def to_event(self) -> tuple[str, dict[str, Any]]:
        _, message = super().to_event()
        return "transition-counter-max-exceeded", message


def transition(state: WorkerState, task: TaskState, finish: StateName) -> None:
    """Bring a task to a state, and others to where that takes them.

    Raises:
        InvalidTransition: with the task's story.
    """
    todo = [(task, finish)]
    while todo:
        task, finish = todo.pop()
        start = task.state
        if start == finish:
            continue
        step = TABLE.get((start, finish))
        if step is None:
            raise InvalidTransition(task.key, start, finish, state.story(task.key))
        state.transition_counter += 1
        if state.transition_counter_max and state.transition_counter > state.transition_counter_max:
            raise TransitionCounterMaxExceeded(task.key, start, finish, state.story(task.key))
        follow = step(state, task)
        state.log.append((task.key, start, finish, task.state, state.stimulus, state.now))
        if state.watched and task.state != start:
            state.outbox.transitions.append((task.key, start, task.state))
        if follow:
            todo.extend(reversed(follow))


def settle(state: WorkerState) -> None:
    """Deal with the tasks that became unneeded or needed during an event."""
    loose = state.loose
    while loose:
        task = loose.pop()
        finish = settled(task)
        if finish is not None and state.tasks.get(task.key) is task:
            transition(state, task, finish)
            if task.state in ("released", "error"):
                loose.append(task)


def settled(task: TaskState) -> StateName | None:
    """Where a loose task belongs; None when it may stay."""
    needed = bool(task.waiters) or task.replica
    match task.state:
        case "released":
            if needed:
                return "fetch"
            return None if task.dependents else "forgotten"
        case "missing" if needed and task.who_has:
            return "fetch"
        case "missing" if not task.waiters:  # a copy that nothing needs is not worth asking for
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
        case "error" if needed:
            return "released"
    return None


def attach(state: WorkerState, task: TaskState, dependencies: Iterable[TaskState], wait: bool) -> None:
    """Note what a task needs; with `wait`, get what is not here."""
    if task.dependencies:  # those of an earlier assignment
        detach(state, task)
    task.dependencies = set(dependencies)
    for dependency in task.dependencies:
        if dependency.dependents:
            dependency.dependents.add(task)
        else:
            dependency.dependents = {task}
    if wait:
        await_data(state, task)


def await_data(state: WorkerState, task: TaskState) -> None:
    """Make a task wait for those of its dependencies that are not here."""
    absent = {dependency for dependency in task.dependencies if dependency.state != "memory"}
    task.waiting_for_data = absent or NOTHING
    for dependency in absent:
        if dependency.waiters:
            dependency.waiters.add(task)
        else:
            dependency.waiters = {task}
        if task.priority < dependency.priority and dependency.attempt < 0:
            dependency.priority = task.priority
        state.loose.append(dependency)


def detach(state: WorkerState, task: TaskState) -> None:
    """A task needs its dependencies no longer."""
    for dependency in task.dependencies:
        dependency.dependents.discard(task)
        if dependency.waiters:
            dependency.waiters.discard(task)
        if dependency.state != "memory":
            state.loose.append(dependency)
    task.dependencies = NOTHING
    task.waiting_for_data = NOTHING


def forget_run(task: TaskState) -> None:
    """A task is no longer one that this worker was asked to compute."""
    task.attempt = -1
    task.function = task.arguments = None
    task.resource_restrictions = None


def finished_message(task: TaskState) -> TaskFinished:
    """Report of a result that did not come from a run just now."""
    return TaskFinished(task.key, task.attempt, max(task.nbytes, 0), task.type or "", task.start_time, task.stop_time)


def enter_memory(state: WorkerState, task: TaskState) -> Follow:
    """The data are stored, and `task.nbytes` is set."""
    task.state = "memory"
    task.previous = task.next = None
    state.nbytes += max(task.nbytes, 0)
    state.in_memory += 1
    if task.who_has:
        gathering.clear_holders(state, task)
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


def enter_released(state: WorkerState, task: TaskState) -> Follow:
    """Whatever it was about is over; `settle` decides what comes next."""
    task.state = "released"
    task.previous = task.next = None
    detach(state, task)
    forget_run(task)
    state.loose.append(task)
    return None


def released_waiting(state: WorkerState, task: TaskState) -> Follow:
    """It is to be computed here; its dependencies are attached."""
    task.state = "waiting"
    state.waiting.add(task)
    return None if task.waiting_for_data else [(task, "ready")]


def released_fetch(state: WorkerState, task: TaskState) -> Follow:
    """Its data are needed here and are elsewhere."""
    if not task.who_has:
        return [(task, "missing")]
    task.state = "fetch"
    gathering.queue(state, task, task.who_has)
    return None


def released_missing(state: WorkerState, task: TaskState) -> Follow:
    """Nobody is known to hold it."""
    if task.replica and not task.waiters:  # a copy that nothing needs is not worth asking for
        task.replica = False
        state.loose.append(task)
        return None
    task.state = "missing"
    state.missing_dep_flight.add(task)
    if (
        task.suspicious_count <= 1
    ):  # later rounds go by `FindMissing`: a holder that fails at once must not be asked in a loop
        state.requested.append(task.key)
    return None


def released_forgotten(state: WorkerState, task: TaskState) -> Follow:
    """Nothing holds the record any more."""
    gathering.clear_holders(state, task)
    task.state = "forgotten"
    del state.tasks[task.key]
    return None


def waiting_ready(state: WorkerState, task: TaskState) -> Follow:
    """All its data are here."""
    if task.resource_restrictions:
        return [(task, "constrained")]
    state.waiting.discard(task)
    task.state = "ready"
    computing.push_ready(state, task)
    return None


def waiting_constrained(state: WorkerState, task: TaskState) -> Follow:
    """All its data are here; it also needs resources."""
    state.waiting.discard(task)
    task.state = "constrained"
    computing.push_constrained(state, task)
    return None


def leave_waiting(then: Step) -> Step:
    """The same after it has stopped waiting."""

    def step(state: WorkerState, task: TaskState) -> Follow:
        state.waiting.discard(task)
        return then(state, task)

    return step


def leave_ready(then: Step) -> Step:
    """The same after it has left the queue (its entry is skipped when it surfaces)."""

    def step(state: WorkerState, task: TaskState) -> Follow:
        computing.note_stale_ready(state)
        return then(state, task)

    return step


def ready_waiting(state: WorkerState, task: TaskState) -> Follow:
    """Data that were here are gone."""
    await_data(state, task)
    return released_waiting(state, task)


def enter_error(state: WorkerState, task: TaskState) -> Follow:
    """It failed; the exception is on the record."""
    task.state = "error"
    task.previous = task.next = None
    state.outbox.messages.append(
        TaskFailed(
            task.key,
            task.attempt,
            task.exception,
            task.traceback,
            task.exception_text,
            task.traceback_text,
            task.start_time,
            task.stop_time,
            getattr(task, "erred_thread", 0),
            retry=task.retry,
        )
    )
    task.exception = task.traceback = None
    detach(state, task)
    task.function = task.arguments = None
    if task.waiters:
        state.loose.append(task)
    return None


def leave_run(then: Step) -> Step:
    """The same after its run has ended: the slot and the resources are free."""

    def step(state: WorkerState, task: TaskState) -> Follow:
        computing.stop(state, task)
        state.long_running.discard(task)
        if task.held_resources:
            computing.give_back_resources(state, task)
        return then(state, task)

    return step


def executing_ready(state: WorkerState, task: TaskState) -> Follow:
    """It was taken back before it started, and is still wanted."""
    task.state = "waiting"
    await_data(state, task)
    state.waiting.add(task)
    return None if task.waiting_for_data else [(task, "ready")]


def executing_rescheduled(state: WorkerState, task: TaskState) -> Follow:
    """It asked to be placed anew."""
    task.state = "rescheduled"
    return [(task, "released")]


def executing_seceded(state: WorkerState, task: TaskState) -> Follow:
    """It runs on without a slot."""
    computing.stop(state, task)
    state.long_running.add(task)
    task.state = "long-running"
    return None


def running_cancelled(state: WorkerState, task: TaskState) -> Follow:
    """It is not wanted any more; what has started must end."""
    if task.state == "executing":
        state.outbox.recall.append(task)
    task.previous = task.state
    task.state = "cancelled"
    detach(state, task)
    if task.waiters:
        state.loose.append(task)
    return None


def flight_cancelled(state: WorkerState, task: TaskState) -> Follow:
    """It is on its way and not wanted any more."""
    task.previous = "flight"
    task.state = "cancelled"
    if task.waiters:
        state.loose.append(task)
    return None


def enter_resumed(state: WorkerState, task: TaskState) -> Follow:
    """It is wanted in another way than what goes on; `task.next` says how, by default as data."""
    if task.state == "flight":
        task.previous = "flight"
    task.state = "resumed"
    task.next = task.next or "fetch"
    return None


def resumed_cancelled(state: WorkerState, task: TaskState) -> Follow:
    """Not wanted in the other way either."""
    if task.next == "waiting":
        detach(state, task)
        forget_spec_of_next(task)
    task.next = None
    task.state = "cancelled"
    if task.waiters:
        state.loose.append(task)
    return None


def forget_spec_of_next(task: TaskState) -> None:
    """The specification on record is not that of the run that goes on: never take that run for an answer."""
    task.function = task.arguments = None


def back_to_previous(state: WorkerState, task: TaskState) -> Follow:
    """It is wanted again in the very way that goes on."""
    assert task.previous is not None
    task.state = task.previous
    task.previous = task.next = None
    return None


def resumed_fetch(state: WorkerState, task: TaskState) -> Follow:
    """What went on ended without data, and data are what is wanted."""
    task.state = "released"
    task.previous = task.next = None
    forget_run(task)
    return released_fetch(state, task)


def resumed_waiting(state: WorkerState, task: TaskState) -> Follow:
    """What went on has ended, and it is to be computed here; its dependencies have been attached."""
    task.previous = task.next = None
    return released_waiting(state, task)


def flight_fetch(state: WorkerState, task: TaskState) -> Follow:
    """It did not come."""
    task.state = "released"
    return released_fetch(state, task)


def memory_released(state: WorkerState, task: TaskState) -> Follow:
    """Its data are to be dropped."""
    state.outbox.free.append(task.key)
    state.nbytes -= max(task.nbytes, 0)
    state.in_memory -= 1
    follow: list[tuple[TaskState, StateName]] = []
    enter_released(state, task)
    for dependent in task.dependents:
        if dependent.state in ("ready", "constrained"):
            follow.append((dependent, "waiting"))
        elif dependent.state == "waiting" or (dependent.state == "resumed" and dependent.next == "waiting"):
            await_data(state, dependent)
    return follow


def forget_result(state: WorkerState, task: TaskState) -> None:
    """Drop data that nothing needs, and their record: memory → released → forgotten, in one step."""
    key = task.key
    state.outbox.free.append(key)
    state.nbytes -= max(task.nbytes, 0)
    state.in_memory -= 1
    state.transition_counter += 2
    task.state = "forgotten"
    del state.tasks[key]
    state.log.append((key, "memory", "released", "forgotten", state.stimulus, state.now))


def leave_missing(then: Step) -> Step:
    """The same after it is no longer missed."""

    def step(state: WorkerState, task: TaskState) -> Follow:
        state.missing_dep_flight.discard(task)
        return then(state, task)

    return step


TABLE: dict[tuple[StateName, StateName], Step] = {
    ("released", "waiting"): released_waiting,
    ("released", "fetch"): released_fetch,
    ("released", "missing"): released_missing,
    ("released", "memory"): enter_memory,
    ("released", "forgotten"): released_forgotten,
    ("waiting", "ready"): waiting_ready,
    ("waiting", "constrained"): waiting_constrained,
    ("waiting", "memory"): leave_waiting(enter_memory),
    ("waiting", "error"): leave_waiting(enter_error),
    ("waiting", "released"): leave_waiting(enter_released),
    # ready → executing and constrained → executing are `computing.start`, fetch → flight is `gathering.gather_from`
    ("ready", "waiting"): leave_ready(ready_waiting),
    ("ready", "memory"): leave_ready(enter_memory),
    ("ready", "released"): leave_ready(enter_released),
    ("constrained", "waiting"): ready_waiting,
    ("constrained", "memory"): enter_memory,
    ("constrained", "released"): enter_released,
    ("executing", "memory"): leave_run(enter_memory),
    ("executing", "error"): leave_run(enter_error),
    ("executing", "ready"): leave_run(executing_ready),
    ("executing", "released"): leave_run(enter_released),
    ("executing", "rescheduled"): leave_run(executing_rescheduled),
    ("executing", "long-running"): executing_seceded,
    ("executing", "cancelled"): running_cancelled,
    ("long-running", "memory"): leave_run(enter_memory),
    ("long-running", "error"): leave_run(enter_error),
    ("long-running", "rescheduled"): leave_run(executing_rescheduled),
    ("long-running", "cancelled"): running_cancelled,
    ("rescheduled", "released"): enter_released,
    ("fetch", "missing"): flight_fetch,
    ("fetch", "waiting"): released_waiting,
    ("fetch", "memory"): enter_memory,
    ("fetch", "released"): enter_released,
    ("flight", "memory"): enter_memory,
    ("flight", "fetch"): flight_fetch,
    ("flight", "released"): enter_released,
    ("flight", "cancelled"): flight_cancelled,
    ("flight", "resumed"): enter_resumed,
    ("missing", "fetch"): leave_missing(released_fetch),
    ("missing", "waiting"): leave_missing(released_waiting),
    ("missing", "memory"): leave_missing(enter_memory),
    ("missing", "released"): leave_missing(enter_released),
    ("memory", "released"): memory_released,
    ("error", "waiting"): released_waiting,
    ("error", "memory"): enter_memory,
    ("error", "released"): enter_released,
    ("cancelled", "executing"): back_to_previous,
    ("cancelled", "long-running"): back_to_previous,
    ("cancelled", "flight"): back_to_previous,
    ("cancelled", "resumed"): enter_resumed,
    ("cancelled", "released"): leave_run(enter_released),
    ("resumed", "executing"): back_to_previous,
    ("resumed", "long-running"): back_to_previous,
    ("resumed", "cancelled"): resumed_cancelled,
    ("resumed", "memory"): leave_run(enter_memory),
    ("resumed", "fetch"): leave_run(resumed_fetch),
    ("resumed", "waiting"): leave_run(resumed_waiting),
}
