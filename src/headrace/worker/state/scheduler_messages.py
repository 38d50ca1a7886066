"""Each message of the scheduler and what it does to the state: one function for each class, in `MESSAGES`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.messages.base import HandlerMessage, Payload
from headrace.messages.worker import (
    AcquireReplicas,
    CloseWorker,
    ComputeTask,
    DefineFunction,
    ForgetFunction,
    FreeKeys,
    HeartbeatInterval,
    InterruptTasks,
    LongRunning,
    RefreshWhoHas,
    ReleasedData,
    RemoveReplicas,
    Retired,
    StealAnswer,
    StealRequest,
    TaskFinished,
)

from . import fetch_queues
from .dependency_links import attach
from .mover import transition
from .run_queues import room
from .tasks import LAST, NO_ANNOTATIONS, TaskState

if TYPE_CHECKING:
    from .core import WorkerCore


def on_define_function(state: WorkerCore, message: DefineFunction) -> None:
    """Remember a callable."""
    state.functions[message.function] = message.pickled


def on_forget_function(state: WorkerCore, message: ForgetFunction) -> None:
    """Drop a callable; tasks that use it have their own reference."""
    state.functions.pop(message.function, None)
    state.learned.pop(message.function, None)


def on_compute_task(state: WorkerCore, message: ComputeTask) -> None:
    """Compute a task; a new one that needs no data and no resources goes the short way, past `waiting`."""
    key = message.key
    if message.dependencies or message.extras is not None or key in state.tasks or not state.short_ways:
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
        transition(state, task, "executing")
    else:
        transition(state, task, "ready")


def undefined_function(message: ComputeTask) -> ValueError:
    """The error for a task whose function was never sent."""
    return ValueError(f"ComputeTask {message.key!r} names function {message.function}, which was not defined")


def plan_compute(state: WorkerCore, message: ComputeTask) -> None:
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
        transition(state, task, "released")  # asked for anew: the links of the earlier assignment may be others
    # An interrupted run ends with an error that says nothing of the call: it cannot be the answer to this message.
    same_run = is_same_run(task, function, message.arguments) and task.key not in state.interrupted
    if task.state in ("executing", "long-running") and not same_run:
        transition(state, task, "cancelled")
    task.attempt = message.attempt  # the scheduler believes no answer that does not repeat its latest attempt
    task.priority = message.priority
    task.report = message.report
    if task.state == "memory":  # the scheduler asked before it heard of the result, or of the copy
        state.outbox.messages.append(finished_message(task))
        return
    if task.state in ("executing", "long-running"):
        return
    dependencies = note_dependencies(state, message)
    if same_run and task.previous in (
        "executing",
        "long-running",
    ):  # called off and asked for again: it is not run twice
        attach(state, task, dependencies, wait=False)
        transition(state, task, task.previous)
        if task.state == "long-running":
            state.outbox.messages.append(LongRunning(task.key, task.attempt, task.seceded_after))
        return
    set_run(state, task, function, message)
    attach(state, task, dependencies, wait=True)
    if task.state in ("flight", "cancelled", "resumed"):  # the key is occupied until what goes on has ended
        task.next = "waiting"
        transition(state, task, "resumed")
    else:
        transition(state, task, "waiting")


def is_same_run(task: TaskState, function: Payload, arguments: Payload) -> bool:
    """Whether the run that goes on is of this very call; a client may have put another under the same key."""
    # with `next` waiting, the call on record is that of the run to come, not of the one that goes on
    if task.next == "waiting" or task.arguments is None:
        return False
    return bool(task.function == function and task.arguments == arguments)


def set_run(state: WorkerCore, task: TaskState, function: Payload, message: ComputeTask) -> None:
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


def note_dependencies(state: WorkerCore, message: ComputeTask) -> list[TaskState]:
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


def note_holders(state: WorkerCore, task: TaskState, holders: list[str], nbytes: int) -> None:
    """Note the holders and the size of data that are not here."""
    if nbytes >= 0 and task.nbytes < 0:
        task.nbytes = nbytes
    news = fetch_queues.add_holders(state, task, holders)
    if news and task.state == "fetch":
        fetch_queues.queue(state, task, news)


def on_free_keys(state: WorkerCore, message: FreeKeys) -> None:
    """Drop results and do not run tasks; a result that no task here needs goes the short way, past `released`."""
    tasks = state.tasks
    for key in message.keys:
        task = tasks.get(key)
        if task is None or (state.scattered and _scattered_since(state, task, message.scattering)):
            continue
        if task.state == "memory":
            if task.attempt < 0:
                # A race: the scheduler may have sent this before it heard that the copy is here, and would believe
                # that news when it comes. Late news of a result is known by its attempt; a copy has none.
                state.outbox.messages.append(ReleasedData(key, message.scattering))
            if not task.dependents and not state.watched and state.short_ways:
                transition(state, task, "forgotten")
                continue
        task.replica = False
        release(state, task)


def _scattered_since(state: WorkerCore, task: TaskState, scattering: int) -> bool:
    """Whether a client has put the value here with a later scattering than the sender of a request to drop it knew.

    A client writes to workers directly, so that its data and the scheduler's requests are not in one order. The number
    is forgotten with the value.
    """
    number = state.scattered.get(task.key)
    if number is None:
        return False
    if task.state == "memory" and number > scattering:
        return True
    del state.scattered[task.key]
    return False


def release(state: WorkerCore, task: TaskState) -> None:
    """Bring a task to released, or to cancelled if something goes on with it."""
    match task.state:
        case "released":
            state.loose.append(task)
        case "executing" | "long-running" | "flight" | "resumed":
            transition(state, task, "cancelled")
        case "cancelled":
            pass  # its run or transfer is awaited already
        case _:
            transition(state, task, "released")


def on_refresh_who_has(state: WorkerCore, message: RefreshWhoHas) -> None:
    """Learn where data are now."""
    for key, holders, nbytes in zip(message.keys, message.who_has, message.nbytes, strict=True):
        task = state.tasks.get(key)
        if task is None or task.state == "memory":  # it came from elsewhere, or was dropped, since the question
            continue
        news = fetch_queues.set_holders(state, task, holders)
        if nbytes >= 0:
            task.nbytes = nbytes
        if task.state == "missing" and task.who_has:
            transition(state, task, "fetch")
        elif task.state == "fetch" and not task.who_has:
            transition(state, task, "missing")
        elif task.state == "fetch" and news:
            fetch_queues.queue(state, task, news)


def on_acquire_replicas(state: WorkerCore, message: AcquireReplicas) -> None:
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
        if task.attempt < 0:  # else a run here will have the data anyway
            task.replica = True
            state.loose.append(task)


def on_remove_replicas(state: WorkerCore, message: RemoveReplicas) -> None:
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


def on_steal_request(state: WorkerCore, message: StealRequest) -> None:
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


def on_interrupt_tasks(state: WorkerCore, message: InterruptTasks) -> None:
    """Stop runs that were called off; what has been asked for anew meanwhile runs again afterwards."""
    for key in message.keys:
        task = state.tasks.get(key)
        if task is not None and task.previous in ("executing", "long-running"):
            state.interrupted.add(key)
            state.outbox.interrupt.append((key, message.force))


def on_close_worker(state: WorkerCore, message: CloseWorker) -> None:
    """Start nothing more; the shell closes."""
    state.running = False
    state.close_requested = message.reason or "the scheduler asked for it"


def on_notice(state: WorkerCore, message: Retired | HeartbeatInterval | HandlerMessage) -> None:
    """For the shell to take note of; what runs goes on."""
    state.notices.append(message)


def finished_message(task: TaskState) -> TaskFinished:
    """Report of a result that did not come from a run just now."""
    return TaskFinished(task.key, task.attempt, max(task.nbytes, 0), task.type or "", task.start_time, task.stop_time)


#: The function for each class in `headrace.messages.worker.ToWorker`.
MESSAGES: dict[type, Callable[[WorkerCore, Any], None]] = {
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
    Retired: on_notice,
    HeartbeatInterval: on_notice,
    HandlerMessage: on_notice,
}
