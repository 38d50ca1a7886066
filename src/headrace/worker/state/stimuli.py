"""What each message and event does to the state: one function for each class, in `HANDLERS`.

The two that come with every task, `on_compute_task` and `on_execute_done`, take a short way with the same records when
nothing is special about the task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.messages.base import Payload
from headrace.messages.worker import (
    AcquireReplicas,
    CannotSend,
    CloseWorker,
    ComputeTask,
    DefineFunction,
    ForgetFunction,
    FreeKeys,
    InterruptTasks,
    LongRunning,
    MissingData,
    RefreshWhoHas,
    ReleasedData,
    RemoveReplicas,
    RescheduleTask,
    StealAnswer,
    StealRequest,
    TaskFinished,
)

from . import computing, events, gathering
from .computing import room
from .tasks import LAST, NO_ANNOTATIONS, NO_TRANSFERS, TaskState
from .transitions import attach, enter_memory, finished_message, forget_result, transition

if TYPE_CHECKING:
    from .core import WorkerState


def on_define_function(state: WorkerState, message: DefineFunction) -> None:
    """Remember a callable."""
    state.functions[message.function] = message.pickled


def on_forget_function(state: WorkerState, message: ForgetFunction) -> None:
    """Drop a callable; tasks that use it have their own reference."""
    state.functions.pop(message.function, None)
    state.learned.pop(message.function, None)


def on_compute_task(state: WorkerState, message: ComputeTask) -> None:
    """Compute a task, the short way if it is new and needs nothing."""
    key = message.key
    if message.dependencies or message.extras is not None or key in state.tasks:
        plan_compute(state, message)
        return
    try:
        function = state.functions[message.function]
    except KeyError:
        raise undefined_function(message) from None
    task = state.tasks[key] = TaskState(key)
    task.attempt = message.attempt
    task.priority = message.priority
    task.function = function
    task.function_number = number = message.function
    task.arguments = message.arguments
    task.duration = expected = message.duration
    task.report = message.report
    if expected < 0:
        expected = state.learned.get(number, -1.0)
    if state.running and not state.ready and room(state, expected):
        task.expected = expected
        computing.start(state, task)
        state.log.append((key, "released", "executing", "executing", state.stimulus, state.now))
    else:
        task.state = "ready"
        computing.push_ready(state, task)
        state.log.append((key, "released", "ready", "ready", state.stimulus, state.now))
    if state.watched:
        state.outbox.transitions.append((key, "released", task.state))


def undefined_function(message: ComputeTask) -> ValueError:
    """The error for a task whose function was never sent."""
    return ValueError(f"ComputeTask {message.key!r} names function {message.function}, which was not defined")


def plan_compute(state: WorkerState, message: ComputeTask) -> None:
    """Compute a task that is known already, or that needs data or resources."""
    if not len(message.dependencies) == len(message.who_has) == len(message.nbytes):
        raise ValueError(f"ComputeTask {message.key!r} has columns of unequal length for its dependencies")
    function = state.functions.get(message.function)
    if function is None:
        raise undefined_function(message)
    task = state.tasks.get(message.key)
    if task is None:
        task = state.tasks[message.key] = TaskState(message.key)
    if task.state in ("waiting", "ready", "constrained", "error"):
        transition(state, task, "released")
    same_run = is_same_run(task, function, message.arguments) and task.key not in state.interrupted
    if task.state in ("executing", "long-running") and not same_run:
        transition(state, task, "cancelled")
    task.attempt = message.attempt
    task.priority = message.priority
    task.report = message.report
    if task.state == "memory":
        state.outbox.messages.append(finished_message(task))
        return
    if task.state in ("executing", "long-running"):
        return
    dependencies = note_dependencies(state, message)
    if same_run and task.previous in ("executing", "long-running"):
        attach(state, task, dependencies, wait=False)
        transition(state, task, task.previous)
        if task.state == "long-running":
            state.outbox.messages.append(LongRunning(task.key, task.attempt, task.seceded_after))
        return
    set_run(state, task, function, message)
    attach(state, task, dependencies, wait=True)
    if task.state in ("flight", "cancelled", "resumed"):
        task.next = "waiting"
        transition(state, task, "resumed")
    else:
        transition(state, task, "waiting")


def is_same_run(task: TaskState, function: Payload, arguments: Payload) -> bool:
    """Whether the run that goes on is of this very call; a client may have put another under the same key."""
    if task.next == "waiting" or task.arguments is None:
        return False
    return bool(task.function == function and task.arguments == arguments)


def set_run(state: WorkerState, task: TaskState, function: Payload, message: ComputeTask) -> None:
    """Put on record how to compute a task."""
    task.function = function
    task.function_number = message.function
    task.arguments = message.arguments
    task.duration = message.duration
    if task.transfers is not None:
        task.transfers = None  # these were for an earlier run
    extras = message.extras
    if extras is None:
        task.resource_restrictions = None
        task.annotations = NO_ANNOTATIONS
        task.actor = False
    else:
        task.actor = extras.actor
        task.resource_restrictions = extras.resources or None
        task.annotations = extras.annotations
        task.span_id = extras.span


def note_dependencies(state: WorkerState, message: ComputeTask) -> list[TaskState]:
    """The records of what a task needs, made if need be, with their holders."""
    found = []
    tasks = state.tasks
    for key, holders, nbytes in zip(message.dependencies, message.who_has, message.nbytes, strict=True):
        task = tasks.get(key)
        if task is None:
            task = tasks[key] = TaskState(key)
            task.priority = message.priority
        if task.state != "memory":
            note_holders(state, task, holders, nbytes)
        found.append(task)
    return found


def note_holders(state: WorkerState, task: TaskState, holders: list[str], nbytes: int) -> None:
    """Where data are that are not here, and how large."""
    if nbytes >= 0 and task.nbytes < 0:
        task.nbytes = nbytes
    news = gathering.add_holders(state, task, holders)
    if news and task.state == "fetch":
        gathering.queue(state, task, news)


def on_free_keys(state: WorkerState, message: FreeKeys) -> None:
    """Drop results and do not run tasks; a result that nothing here needs goes the short way."""
    tasks = state.tasks
    for key in message.keys:
        task = tasks.get(key)
        if task is None or (state.scattered and _scattered_since(state, task, message.scattering)):
            continue
        if task.state == "memory":
            if task.attempt < 0:
                # The news that this copy is here may not have reached the scheduler when it sent this.
                state.outbox.messages.append(ReleasedData(key, message.scattering))
            if not task.dependents and not state.watched:
                forget_result(state, task)
                continue
        task.replica = False
        release(state, task)


def _scattered_since(state: WorkerState, task: TaskState, scattering: int) -> bool:
    """Whether a client has put the value here later than whoever asks to drop it knows; that is not known for longer
    than the value is here."""
    number = state.scattered.get(task.key)
    if number is None:
        return False
    if task.state == "memory" and number > scattering:
        return True
    del state.scattered[task.key]
    return False


def release(state: WorkerState, task: TaskState) -> None:
    """Bring a task to released, or to cancelled if something goes on with it."""
    match task.state:
        case "released":
            state.loose.append(task)
        case "executing" | "long-running" | "flight" | "resumed":
            transition(state, task, "cancelled")
        case "cancelled":
            pass
        case _:
            transition(state, task, "released")


def on_refresh_who_has(state: WorkerState, message: RefreshWhoHas) -> None:
    """Learn where data are now."""
    for key, holders, nbytes in zip(message.keys, message.who_has, message.nbytes, strict=True):
        task = state.tasks.get(key)
        if task is None or task.state == "memory":
            continue
        news = gathering.set_holders(state, task, holders)
        if nbytes >= 0:
            task.nbytes = nbytes
        if task.state == "missing" and task.who_has:
            transition(state, task, "fetch")
        elif task.state == "fetch" and not task.who_has:
            transition(state, task, "missing")
        elif task.state == "fetch" and news:
            gathering.queue(state, task, news)


def on_acquire_replicas(state: WorkerState, message: AcquireReplicas) -> None:
    """Fetch copies that the scheduler wants here."""
    for key, holders, nbytes in zip(message.keys, message.who_has, message.nbytes, strict=True):
        task = state.tasks.get(key)
        if task is None:
            task = state.tasks[key] = TaskState(key)
            task.priority = LAST
        if task.state == "memory":
            state.added.append(key)
            continue
        note_holders(state, task, holders, nbytes)
        if task.attempt < 0:
            task.replica = True
            state.loose.append(task)


def on_remove_replicas(state: WorkerState, message: RemoveReplicas) -> None:
    """Drop copies that nothing here needs, and say which are needed.

    Every key is answered with `ReleasedData`, then those kept with `AddKeys`: between its request and the first of
    these the scheduler believes no other word of a copy here, which may be older than the request.
    """
    for key in message.keys:
        state.outbox.messages.append(ReleasedData(key, message.scattering))
        task = state.tasks.get(key)
        if task is None:
            continue
        if state.scattered and _scattered_since(state, task, message.scattering):
            state.added.append(key)
            continue
        task.replica = False
        if task.state != "memory":
            state.loose.append(task)
        elif task.dependents:
            state.added.append(key)
        else:
            transition(state, task, "released")


def on_steal_request(state: WorkerState, message: StealRequest) -> None:
    """Give a task back, if that is still possible."""
    task = state.tasks.get(message.key)
    if task is None or task.attempt != message.attempt:
        state.outbox.messages.append(StealAnswer(message.key, message.attempt, "released"))
    elif task.state in ("waiting", "ready", "constrained"):
        state.outbox.messages.append(StealAnswer(message.key, message.attempt, task.state))
        transition(state, task, "released")
    elif task.state == "executing":
        state.recalls_for_steal.add(task.key)
        state.outbox.recall.append(task)
    else:
        state.outbox.messages.append(StealAnswer(message.key, message.attempt, task.state))


def on_interrupt_tasks(state: WorkerState, message: InterruptTasks) -> None:
    """Stop runs that were called off; what has been asked for anew meanwhile runs again afterwards."""
    for key in message.keys:
        task = state.tasks.get(key)
        if task is not None and task.previous in ("executing", "long-running"):
            state.interrupted.add(key)
            state.outbox.interrupt.append((key, message.force))


def on_close_worker(state: WorkerState, message: CloseWorker) -> None:
    """Start nothing more; the shell closes."""
    state.running = False
    state.close_requested = message.reason or "the scheduler asked for it"


def on_execute_done(state: WorkerState, event: events.ExecuteDone) -> None:
    """A task has a result."""
    key = event.key
    task = state.tasks[key]
    start, stop = event.start, event.stop
    task.nbytes = event.nbytes
    task.type = event.type
    task.start_time = start
    task.stop_time = stop
    state.executed_count += 1
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
        if task.waiters or task.held_resources or before != "executing":
            transition(state, task, "memory")
            return
        computing.stop(state, task)
        enter_memory(state, task)
        state.log.append((key, "executing", "memory", "memory", state.stimulus, state.now))
        if state.watched:
            state.outbox.transitions.append((key, "executing", "memory"))
    else:
        finish_unwanted(state, task)


def finish_unwanted(state: WorkerState, task: TaskState) -> None:
    """The run of a cancelled or resumed task returned a value."""
    if task.state == "resumed" and task.next == "fetch":
        state.interrupted.discard(task.key)
        task.attempt = -1
        state.added.append(task.key)
        transition(state, task, "memory")
        return
    state.outbox.free.append(task.key)
    end_unwanted(state, task)


def end_unwanted(state: WorkerState, task: TaskState) -> None:
    """What went on with a cancelled or resumed task is over and left no data."""
    state.interrupted.discard(task.key)
    if task.state == "cancelled":
        transition(state, task, "released")
    elif task.next == "fetch":
        transition(state, task, "fetch")
    else:
        transition(state, task, "waiting")


def on_execute_failed(state: WorkerState, event: events.ExecuteFailed) -> None:
    """A task raised."""
    task = state.tasks[event.key]
    if task.state not in ("executing", "long-running"):
        end_unwanted(state, task)
        return
    set_failure(task, event)
    transition(state, task, "error")


def set_failure(task: TaskState, event: events.ExecuteFailed) -> None:
    """Put an exception on record."""
    task.exception = event.exception
    task.traceback = event.traceback
    task.exception_text = event.exception_text
    task.traceback_text = event.traceback_text
    task.retry = event.retry
    task.start_time = event.start
    task.stop_time = event.stop
    task.erred_thread = event.thread


def on_execute_rescheduled(state: WorkerState, event: events.ExecuteRescheduled) -> None:
    """A task asked to be placed anew."""
    task = state.tasks[event.key]
    if task.state not in ("executing", "long-running"):
        end_unwanted(state, task)
        return
    state.outbox.messages.append(RescheduleTask(task.key, task.attempt))
    transition(state, task, "rescheduled")


def on_execute_seceded(state: WorkerState, event: events.ExecuteSeceded) -> None:
    """A task goes on without its slot."""
    task = state.tasks[event.key]
    task.seceded_after = event.duration
    if task.state == "executing":
        transition(state, task, "long-running")
        state.outbox.messages.append(LongRunning(task.key, task.attempt, event.duration))
    elif task.previous == "executing":
        task.previous = "long-running"
        computing.stop(state, task)
        state.long_running.add(task)


def on_execute_recalled(state: WorkerState, event: events.ExecuteRecalled) -> None:
    """A task that was to be taken back from the executor has been, or had started."""
    task = state.tasks.get(event.key)
    stolen = event.key in state.recalls_for_steal
    lost = event.key in state.recalls_for_loss
    state.recalls_for_steal.discard(event.key)
    state.recalls_for_loss.discard(event.key)
    if task is None:
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


def on_gather_done(state: WorkerState, event: events.GatherDone) -> None:
    """A peer answered with some or all of what it was asked for."""
    worker = event.worker
    told: set[TaskState] = set()
    for task in gathering.close_request(state, worker):
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
            gathering.remove_holder(state, task, worker)
            state.outbox.messages.append(MissingData(task.key, worker))
            not_arrived(state, task)
    gathering.reopen(state, worker)


def note_transfer(task: TaskState, event: events.GatherDone, told: set[TaskState]) -> None:
    """Account a transfer to one task that waited for it; once a request, however many of its keys the task needs."""
    for waiter in task.waiters:
        if waiter not in told:
            told.add(waiter)
            if waiter.transfers is None:
                waiter.transfers = []
            waiter.transfers.append(("transfer", event.start, event.stop))
        return


def arrived(state: WorkerState, task: TaskState) -> None:
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


def not_arrived(state: WorkerState, task: TaskState) -> None:
    """Data did not come."""
    task.suspicious_count += 1
    if task.state == "flight":
        transition(state, task, "fetch")
    else:
        end_unwanted(state, task)


def fail_waiters(state: WorkerState, task: TaskState, failure: events.ExecuteFailed) -> None:
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


def on_gather_busy(state: WorkerState, event: events.GatherBusy) -> None:
    """A peer asks to be left alone for a while; others may hold the same."""
    state.busy_workers.add(event.worker)
    state.outbox.retry_later.append(event.worker)
    for task in gathering.close_request(state, event.worker):
        if task.state == "flight":
            transition(state, task, "fetch")
        else:
            end_unwanted(state, task)


def on_busy_over(state: WorkerState, event: events.BusyOver) -> None:
    """A busy peer may be asked again."""
    state.busy_workers.discard(event.worker)
    gathering.reopen(state, event.worker)


def on_gather_failed(state: WorkerState, event: events.GatherFailed) -> None:
    """A peer cannot be reached: take it that it holds nothing."""
    worker = event.worker
    tasks = gathering.close_request(state, worker)
    state.data_needed.pop(worker, None)
    for task in list(state.has_what.get(worker, ())):
        gathering.remove_holder(state, task, worker)
        if task.state == "fetch" and not task.who_has:
            task.suspicious_count += 1
            transition(state, task, "missing")
    for task in tasks:
        not_arrived(state, task)


def on_find_missing(state: WorkerState, event: events.FindMissing) -> None:
    """Ask again where the missing data are."""
    state.requested.extend(task.key for task in state.missing_dep_flight)


def on_data_stored(state: WorkerState, event: events.DataStored) -> None:
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


def on_data_dropped(state: WorkerState, event: events.DataDropped) -> None:
    """Data are gone that the scheduler believes to be here."""
    for key in event.keys:
        task = state.tasks.get(key)
        if task is not None and task.state == "memory":
            state.scattered.pop(key, None)
            state.outbox.messages.append(ReleasedData(key))
            transition(state, task, "released")


def on_scheduler_lost(state: WorkerState, event: events.SchedulerLost) -> None:
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


def on_pause(state: WorkerState, event: events.Pause) -> None:
    """Start nothing new."""
    state.running = False


def on_unpause(state: WorkerState, event: events.Unpause) -> None:
    """Go on with what is queued."""
    state.running = True


def on_set_resources(state: WorkerState, event: events.SetResources) -> None:
    """Change the amounts of resources, less what is in use."""
    for name, amount in event.resources.items():
        used = state.total_resources.get(name, 0.0) - state.available_resources.get(name, 0.0)
        state.total_resources[name] = amount
        state.available_resources[name] = amount - used


HANDLERS: dict[type, Callable[[Any, Any], None]] = {
    ComputeTask: on_compute_task,
    DefineFunction: on_define_function,
    ForgetFunction: on_forget_function,
    FreeKeys: on_free_keys,
    RefreshWhoHas: on_refresh_who_has,
    AcquireReplicas: on_acquire_replicas,
    RemoveReplicas: on_remove_replicas,
    StealRequest: on_steal_request,
    InterruptTasks: on_interrupt_tasks,
    CloseWorker: on_close_worker,
    events.ExecuteDone: on_execute_done,
    events.ExecuteFailed: on_execute_failed,
    events.ExecuteRescheduled: on_execute_rescheduled,
    events.ExecuteSeceded: on_execute_seceded,
    events.ExecuteRecalled: on_execute_recalled,
    events.GatherDone: on_gather_done,
    events.GatherBusy: on_gather_busy,
    events.BusyOver: on_busy_over,
    events.GatherFailed: on_gather_failed,
    events.FindMissing: on_find_missing,
    events.DataStored: on_data_stored,
    events.DataDropped: on_data_dropped,
    events.SchedulerLost: on_scheduler_lost,
    events.Pause: on_pause,
    events.Unpause: on_unpause,
    events.SetResources: on_set_resources,
}
