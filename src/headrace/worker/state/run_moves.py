"""Moves of runs: waiting, ready, constrained, executing, long-running, error, cancelled, resumed.

Each function is the move of one or several pairs in `transition_table`. It changes records and the outbox, and returns
the moves of other tasks that follow from it. Only `mover.transition` calls these functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.messages.worker import TaskFailed

from . import run_queues
from .data_moves import Follow, enter_memory, forget_run, released_fetch
from .dependency_links import await_data, detach
from .effects import TaskRun
from .tasks import TaskState

if TYPE_CHECKING:
    from .core import WorkerCore

# Before the run


def enter_waiting(state: WorkerCore, task: TaskState) -> Follow:
    """* → waiting: the scheduler wants a run here, and the dependencies are attached; ready if all data are here."""
    task.state = "waiting"
    state.waiting.add(task)
    return None if task.waiting_for_data else [(task, "ready")]


def leave_waiting(state: WorkerCore, task: TaskState) -> None:
    """waiting → *: the task is no longer among those that wait for data."""
    state.waiting.discard(task)


def waiting_ready(state: WorkerCore, task: TaskState) -> Follow:
    """waiting → ready: all data are here; constrained if the run takes resources."""
    if task.resource_restrictions:
        return [(task, "constrained")]
    state.waiting.discard(task)
    return enter_ready(state, task)


def enter_ready(state: WorkerCore, task: TaskState) -> Follow:
    """* → ready: the task queues for a thread."""
    task.state = "ready"
    run_queues.push_ready(state, task)
    return None


def waiting_constrained(state: WorkerCore, task: TaskState) -> Follow:
    """waiting → constrained: all data are here, and the task queues for the resources that its run takes."""
    state.waiting.discard(task)
    task.state = "constrained"
    run_queues.push_constrained(state, task)
    return None


def leave_ready(state: WorkerCore, task: TaskState) -> None:
    """ready → *, but for executing: the task's entry stays in the heap, and is skipped when it surfaces."""
    run_queues.note_stale_ready(state)


def ready_waiting(state: WorkerCore, task: TaskState) -> Follow:
    """ready, constrained → waiting: a value that the task needs has been dropped here."""
    await_data(state, task)
    return enter_waiting(state, task)


# The run


def enter_executing(state: WorkerCore, task: TaskState) -> Follow:
    """* → executing: the executor gets the run; `task.expected` is set, and the resources are free."""
    task.state = "executing"
    state.executing.add(task)
    expected = task.expected
    if expected > 0:
        task.ahead = expected
        state.backlog += expected
    if task.resource_restrictions:
        available = state.available_resources
        task.held_resources = task.resource_restrictions
        for name, amount in task.held_resources.items():
            available[name] -= amount
    state.outbox.execute.append(TaskRun(task))
    return None


def leave_run(state: WorkerCore, task: TaskState) -> None:
    """* → *, when a run has ended, or was taken back unstarted: its slot and its resources are free again."""
    run_queues.stop(state, task)
    if state.long_running:
        state.long_running.discard(task)
    if task.held_resources:
        run_queues.give_back_resources(state, task)


def executing_memory(state: WorkerCore, task: TaskState) -> Follow:
    """executing → memory: the run returned, and the shell has stored the value."""
    run_queues.stop(state, task)
    if task.held_resources:
        run_queues.give_back_resources(state, task)
    return enter_memory(state, task)


def executing_ready(state: WorkerCore, task: TaskState) -> Follow:
    """executing → ready: the executor gave the run back unstarted, and the scheduler still wants it here.

    The task passes through waiting: a value that it needs may have been dropped meanwhile.
    """
    task.state = "waiting"
    await_data(state, task)
    state.waiting.add(task)
    return None if task.waiting_for_data else [(task, "ready")]


def executing_rescheduled(state: WorkerCore, task: TaskState) -> Follow:
    """executing, long-running → rescheduled: the task raised `Reschedule`, and the scheduler places it anew."""
    task.state = "rescheduled"
    return [(task, "released")]


def executing_seceded(state: WorkerCore, task: TaskState) -> Follow:
    """executing → long-running: the run goes on without its slot."""
    leave_slot(state, task)
    task.state = "long-running"
    return None


def leave_slot(state: WorkerCore, task: TaskState) -> None:
    """File a run that goes on, whatever has become of its task, among those that have seceded."""
    run_queues.stop(state, task)
    state.long_running.add(task)


def enter_error(state: WorkerCore, task: TaskState) -> Follow:
    """* → error: the run failed, or its data cannot be had; the exception is on the record."""
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


# Runs and transfers that go on although what they were begun for is over


def running_cancelled(state: WorkerCore, task: TaskState) -> Follow:
    """executing, long-running → cancelled: nobody wants the run any more, and a thread may have begun it.

    The executor is asked for a run that no thread has taken. A run that has begun cannot be undone, and its end is
    awaited: until then the key must not be run a second time.
    """
    if task.state == "executing":
        state.outbox.recall.append(task)
    task.previous = task.state
    task.state = "cancelled"
    detach(state, task)
    if task.waiters:
        state.loose.append(task)
    return None


def enter_resumed(state: WorkerCore, task: TaskState) -> Follow:
    """cancelled, flight → resumed: wanted again, but in another way than by the run or transfer that still goes on.

    `task.next` says in which: by fetching its data (the default), or by a run of its own.
    """
    if task.state == "flight":
        task.previous = "flight"
    task.state = "resumed"
    task.next = task.next or "fetch"
    return None


def resumed_cancelled(state: WorkerCore, task: TaskState) -> Follow:
    """resumed → cancelled: the wish for the fetch, or the run, that was to come next has been withdrawn as well."""
    if task.next == "waiting":
        detach(state, task)
        # The record describes the run that was to come next, not the one that goes on: without this, a later
        # ComputeTask for that same call would take the run that goes on for its own.
        task.function = task.arguments = None
    task.next = None
    task.state = "cancelled"
    if task.waiters:
        state.loose.append(task)
    return None


def back_to_previous(state: WorkerCore, task: TaskState) -> Follow:
    """cancelled, resumed → previous: wanted again for the very run or transfer that still goes on."""
    assert task.previous is not None
    task.state = task.previous
    task.previous = task.next = None
    return None


def resumed_fetch(state: WorkerCore, task: TaskState) -> Follow:
    """resumed → fetch: the run that went on ended without a value; a task here needs the data from a peer."""
    task.state = "released"
    task.previous = task.next = None
    forget_run(task)
    return released_fetch(state, task)


def resumed_waiting(state: WorkerCore, task: TaskState) -> Follow:
    """resumed → waiting: the run or transfer that went on has ended, and the run that the scheduler wants can come.

    Its dependencies were attached when it was asked for.
    """
    task.previous = task.next = None
    return enter_waiting(state, task)
