"""Each event of the shell and what it does to the state: one function for each class, in `EVENTS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.messages.worker import (
    CannotSend,
    LongRunning,
    MissingData,
    ReleasedData,
    RescheduleTask,
    StealAnswer,
    TaskFinished,
)

from . import fetch_queues
from .events import (
    BusyOver,
    DataDropped,
    DataStored,
    ExecuteDone,
    ExecuteFailed,
    ExecuteRecalled,
    ExecuteRescheduled,
    ExecuteSeceded,
    FindMissing,
    GatherBusy,
    GatherDone,
    GatherFailed,
    Pause,
    SchedulerLost,
    SetResources,
    Unpause,
)
from .mover import transition
from .run_moves import leave_slot
from .scheduler_messages import finished_message, release
from .tasks import NO_TRANSFERS, TaskState

if TYPE_CHECKING:
    from .core import WorkerCore


def on_execute_done(state: WorkerCore, event: ExecuteDone) -> None:
    """A task has a result."""
    key = event.key
    task = state.tasks[key]
    start, stop = event.start, event.stop
    task.nbytes = event.nbytes
    task.type = event.type
    task.start_time = start
    task.stop_time = stop
    state.executed_count += 1
    state.executed_seconds += stop - start
    if event.loading is not None:
        task.transfers = [*(task.transfers or ()), ("load", *event.loading)]
    before = task.state
    if before == "executing" or before == "long-running":
        if task.duration < 0 and before == "executing":
            number = task.function_number
            state.learned[number] = 0.5 * (state.learned.get(number, stop - start) + stop - start)
        state.outbox.messages.append(
            TaskFinished(
                key,
                task.attempt,
                event.nbytes,
                event.type,
                start,
                stop,
                event.result,
                event.thread,
                task.transfers or NO_TRANSFERS,
                task.metadata if state.watched else task.given_metadata,
            )
        )
        transition(state, task, "memory")
    else:
        finish_unwanted(state, task)


def finish_unwanted(state: WorkerCore, task: TaskState) -> None:
    """The run of a cancelled or resumed task returned a value."""
    if task.state == "resumed" and task.next == "fetch":
        state.interrupted.discard(task.key)
        task.attempt = -1  # a copy, not an answer: the scheduler called this attempt off
        state.added.append(task.key)
        transition(state, task, "memory")
        return
    state.outbox.free.append(task.key)  # the shell stores a value before it reports it
    end_unwanted(state, task)


def end_unwanted(state: WorkerCore, task: TaskState) -> None:
    """The run or transfer that went on with a cancelled or resumed task is over and left no data."""
    state.interrupted.discard(task.key)
    if task.state == "cancelled":
        transition(state, task, "released")
    elif task.next == "fetch":
        transition(state, task, "fetch")
    else:
        transition(state, task, "waiting")


def on_execute_failed(state: WorkerCore, event: ExecuteFailed) -> None:
    """A task raised."""
    task = state.tasks[event.key]
    state.failed_count += 1
    state.executed_seconds += event.stop - event.start
    if task.state not in ("executing", "long-running"):
        end_unwanted(state, task)
        return
    set_failure(task, event)
    transition(state, task, "error")


def set_failure(task: TaskState, event: ExecuteFailed) -> None:
    """Put an exception on record."""
    task.exception = event.exception
    task.traceback = event.traceback
    task.exception_text = event.exception_text
    task.traceback_text = event.traceback_text
    task.retry = event.retry
    task.start_time = event.start
    task.stop_time = event.stop
    task.erred_thread = event.thread


def on_execute_rescheduled(state: WorkerCore, event: ExecuteRescheduled) -> None:
    """A task asked to be placed anew."""
    task = state.tasks[event.key]
    if task.state not in ("executing", "long-running"):
        end_unwanted(state, task)
        return
    state.outbox.messages.append(RescheduleTask(task.key, task.attempt))
    transition(state, task, "rescheduled")


def on_execute_seceded(state: WorkerCore, event: ExecuteSeceded) -> None:
    """A task goes on without its slot."""
    task = state.tasks[event.key]
    task.seceded_after = event.duration
    if task.state == "executing":
        transition(state, task, "long-running")
        state.outbox.messages.append(LongRunning(task.key, task.attempt, event.duration))
    elif task.previous == "executing":
        task.previous = "long-running"
        leave_slot(state, task)


def on_execute_recalled(state: WorkerCore, event: ExecuteRecalled) -> None:
    """A task that was to be taken back from the executor has been, or had started."""
    task = state.tasks.get(event.key)
    stolen = event.key in state.recalls_for_steal
    lost = event.key in state.recalls_for_loss
    state.recalls_for_steal.discard(event.key)
    state.recalls_for_loss.discard(event.key)
    if task is None:  # it ended before the executor was asked
        return
    if stolen:
        given = "ready" if event.unstarted and task.state == "executing" else task.state
        state.outbox.messages.append(StealAnswer(task.key, task.attempt, given))
    if not event.unstarted:
        return
    if task.state == "executing":
        transition(state, task, "released" if stolen or lost else "ready")
    elif task.previous == "executing":
        end_unwanted(state, task)


def on_gather_done(state: WorkerCore, event: GatherDone) -> None:
    """A peer answered with some or all of what it was asked for."""
    worker = event.worker
    told: set[TaskState] = set()
    for task in fetch_queues.close_request(state, worker):
        nbytes = event.data.get(task.key)
        if nbytes is not None:
            task.nbytes = nbytes
            if event.stop:
                note_transfer(task, event, told)
            arrived(state, task)
        elif task.key in event.broken:
            failure = event.broken[task.key]
            if failure.unsent:  # first, so that the scheduler knows why the tasks failed
                state.outbox.messages.append(CannotSend(task.key))
            fail_waiters(state, task, failure)
        else:
            fetch_queues.remove_holder(state, task, worker)
            state.outbox.messages.append(MissingData(task.key, worker))
            not_arrived(state, task)
    fetch_queues.reopen(state, worker)


def note_transfer(task: TaskState, event: GatherDone, told: set[TaskState]) -> None:
    """Account a transfer to one task that waited for it; once a request, however many of its keys the task needs."""
    for waiter in task.waiters:
        if waiter not in told:
            told.add(waiter)
            if waiter.transfers is None:
                waiter.transfers = []
            waiter.transfers.append(("transfer", event.start, event.stop))
        return


def arrived(state: WorkerCore, task: TaskState) -> None:
    """Data are here."""
    if task.state == "cancelled":
        state.outbox.free.append(task.key)
        transition(state, task, "released")
        return
    task.suspicious_count = 0
    if task.state == "resumed":
        transition(state, task, "memory")
        state.outbox.messages.append(finished_message(task))
        return
    state.added.append(task.key)
    transition(state, task, "memory")


def not_arrived(state: WorkerCore, task: TaskState) -> None:
    """Data did not come."""
    task.suspicious_count += 1
    if task.state == "flight":
        transition(state, task, "fetch")
    else:
        end_unwanted(state, task)


def fail_waiters(state: WorkerCore, task: TaskState, failure: ExecuteFailed) -> None:
    """Data cannot be sent, or cannot be unpickled here: what waits for them cannot run here."""
    for waiter in list(task.waiters):
        if waiter.state == "waiting":
            set_failure(waiter, failure)
            transition(state, waiter, "error")
    if task.state == "flight":
        task.replica = False
        transition(state, task, "released")
    else:
        end_unwanted(state, task)


def on_gather_busy(state: WorkerCore, event: GatherBusy) -> None:
    """A peer asks to be left alone for a while; others may hold the same."""
    state.busy_workers.add(event.worker)
    state.outbox.retry_later.append(event.worker)
    for task in fetch_queues.close_request(state, event.worker):
        if task.state == "flight":
            transition(state, task, "fetch")
        else:
            end_unwanted(state, task)


def on_busy_over(state: WorkerCore, event: BusyOver) -> None:
    """A busy peer may be asked again."""
    state.busy_workers.discard(event.worker)
    fetch_queues.reopen(state, event.worker)


def on_gather_failed(state: WorkerCore, event: GatherFailed) -> None:
    """A peer cannot be reached: take it that it holds nothing."""
    worker = event.worker
    tasks = fetch_queues.close_request(state, worker)
    state.data_needed.pop(worker, None)
    for task in list(state.has_what.get(worker, ())):
        fetch_queues.remove_holder(state, task, worker)
        if task.state == "fetch" and not task.who_has:
            task.suspicious_count += 1  # from the second failure on, the scheduler is asked at intervals only
            transition(state, task, "missing")
    for task in tasks:
        not_arrived(state, task)


def on_find_missing(state: WorkerCore, event: FindMissing) -> None:
    """Ask again where the missing data are."""
    state.requested.extend(task.key for task in state.missing_dep_flight)


def on_data_stored(state: WorkerCore, event: DataStored) -> None:
    """Data were scattered here."""
    for key, nbytes in event.nbytes.items():
        state.log.append((key, "receive-from-scatter", "memory", "memory", state.stimulus, state.now))
        task = state.tasks.get(key)
        if task is None:
            task = state.tasks[key] = TaskState(key)
        if event.scattering:
            state.scattered[key] = max(event.scattering, state.scattered.get(key, 0))
        if task.state == "memory":
            state.nbytes += nbytes - max(task.nbytes, 0)
            task.nbytes = nbytes
        elif task.state in ("executing", "long-running", "flight", "cancelled", "resumed"):
            state.outbox.free.append(key)  # what goes on will end with a value of its own
            state.outbox.messages.append(ReleasedData(key))
        else:
            asked = task.state in ("waiting", "ready", "constrained")
            task.nbytes = nbytes
            transition(state, task, "memory")
            if asked:
                state.outbox.messages.append(finished_message(task))


def on_data_dropped(state: WorkerCore, event: DataDropped) -> None:
    """Data are gone that the scheduler believes to be here."""
    for key in event.keys:
        task = state.tasks.get(key)
        if task is not None and task.state == "memory":
            state.scattered.pop(key, None)
            state.outbox.messages.append(ReleasedData(key))
            transition(state, task, "released")


def on_scheduler_lost(state: WorkerCore, event: SchedulerLost) -> None:
    """Forget what has not started; the scheduler has placed it elsewhere, and does not tell us of it any more.

    What runs goes on: its result is as good as the other's, and if it is there first, that one is taken back.
    """
    state.functions.clear()  # their numbers are those of the connection
    state.learned.clear()
    for task in list(state.tasks.values()):
        task.replica = task.replica and task.state == "memory"
        if task.state == "executing":
            state.recalls_for_loss.add(task.key)
            state.outbox.recall.append(task)
        elif task.state not in ("memory", "long-running"):
            release(state, task)


def on_pause(state: WorkerCore, event: Pause) -> None:
    """Start nothing new."""
    state.running = False


def on_unpause(state: WorkerCore, event: Unpause) -> None:
    """Go on with what is queued."""
    state.running = True


def on_set_resources(state: WorkerCore, event: SetResources) -> None:
    """Change the amounts of resources, less what is in use."""
    for name, amount in event.resources.items():
        used = state.total_resources.get(name, 0.0) - state.available_resources.get(name, 0.0)
        state.total_resources[name] = amount
        state.available_resources[name] = amount - used


#: The function for each class in `headrace.worker.state.events.FromShell`.
EVENTS: dict[type, Callable[[WorkerCore, Any], None]] = {
    ExecuteDone: on_execute_done,
    ExecuteFailed: on_execute_failed,
    ExecuteRescheduled: on_execute_rescheduled,
    ExecuteSeceded: on_execute_seceded,
    ExecuteRecalled: on_execute_recalled,
    GatherDone: on_gather_done,
    GatherBusy: on_gather_busy,
    BusyOver: on_busy_over,
    GatherFailed: on_gather_failed,
    FindMissing: on_find_missing,
    DataStored: on_data_stored,
    DataDropped: on_data_dropped,
    SchedulerLost: on_scheduler_lost,
    Pause: on_pause,
    Unpause: on_unpause,
    SetResources: on_set_resources,
}
