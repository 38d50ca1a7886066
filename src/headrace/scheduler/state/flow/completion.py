"""What workers report of tasks: finished, failed, given back, seceded, missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from headrace.common.keys import Key
from headrace.messages.worker import (
    AddKeys,
    CannotSend,
    LongRunning,
    MissingData,
    RefreshWhoHas,
    ReleasedData,
    RequestWhoHas,
    RescheduleTask,
    StealAnswer,
    TaskFailed,
    TaskFinished,
)
from headrace.scheduler.state.balance import steal_requests
from headrace.scheduler.state.data.replicas import add_replica, drop_replica, set_nbytes
from headrace.scheduler.state.data.scatters import is_stale
from headrace.scheduler.state.placing import promises
from headrace.scheduler.state.placing.load import change_cost, end_processing
from headrace.scheduler.state.placing.pinned_results import has_other_home, on_cannot_send
from headrace.scheduler.state.transitions.running import finish

from .retry_delays import retry_at

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState
    from headrace.scheduler.state.transitions.engine import Recommendations


def on_finished(state: SchedulerCore, worker: WorkerState, message: TaskFinished) -> Recommendations:
    """A worker has computed a result, and holds it."""
    task = state.tasks.get(message.key)
    if task is None or task.attempt != message.attempt or task.processing_on is not worker:
        return _on_stale_result(state, worker, task, message)
    group = task.group
    start, stop = message.start, message.stop
    if stop:  # zero: the result was there already, and says nothing of how long it takes
        elapsed = stop - start
        group.prefix.observe(elapsed if elapsed > 0 else 0.0)
        group.add_duration("compute", start, stop)
    for action, began, ended in message.startstops:
        group.add_duration(action, began, ended)
    if message.metadata:
        task.metadata.update(message.metadata)
    nbytes = message.nbytes
    task.type = message.type
    if message.type not in group.types:
        group.types.add(message.type)
    end_processing(state, worker, task)
    known = task.nbytes
    task.nbytes = nbytes
    group.nbytes_total += nbytes if known < 0 else nbytes - known  # computed again: as `set_nbytes` counts
    task.who_has = worker.alone
    worker.has_what[task] = None
    worker.nbytes += nbytes
    if task.options.actor:
        worker.actors.add(task)
    recommendations: Recommendations = {}
    finish(state, task, message.result, recommendations)
    return recommendations


def _on_stale_result(
    state: SchedulerCore, worker: WorkerState, task: TaskState | None, message: TaskFinished
) -> Recommendations:
    """The answer to an assignment that has been taken back."""
    if task is None or task.state in ("released", "forgotten", "erred"):
        state.free(worker, message.key)
        return {}
    promised = state.promises.workers.get(task) is worker and task.attempt == message.attempt
    if message.attempt > worker.first_attempt and not promised:  # what was promised can be there before what it needs
        return {}  # it was called off on this very connection: the worker has freed it, or will
    if task.processing_on is worker:
        return {}  # sent there again since: that answer will come
    if task.state == "memory":
        if task.options.actor:
            state.free(worker, message.key)  # the actor lives elsewhere
        else:
            add_replica(task, worker)
        return {}
    # From before its connection broke. Someone still wants it, and here it is.
    _note_run(task, message)
    set_nbytes(task, message.nbytes)
    add_replica(task, worker)
    if task.options.actor:
        worker.actors.add(task)
    return {task: "memory"}


def _note_run(task: TaskState, message: TaskFinished) -> None:
    """What `on_finished` records of a run as well, for a result that came late and is used."""
    group = task.group
    if message.stop:
        group.prefix.observe(max(0.0, message.stop - message.start))
        group.add_duration("compute", message.start, message.stop)
    for action, began, ended in message.startstops:
        group.add_duration(action, began, ended)
    if message.metadata:
        task.metadata.update(message.metadata)
    task.type = message.type
    group.add_type(message.type)


def on_failed(state: SchedulerCore, worker: WorkerState, message: TaskFailed) -> Recommendations:
    """A task raised: run it again, now or later, if it has retries left for such an error, else it has erred."""
    task = state.tasks.get(message.key)
    if task is None or task.attempt != message.attempt or task.processing_on is not worker:
        if task is None or task.processing_on is not worker:
            if task is None or state.promises.workers.get(task) is not worker:
                state.free(worker, message.key)
            promises.on_given_back(state, worker, task, message.attempt)
        return {}
    task.group.add_duration("compute", message.start, message.stop)
    if state.staying and has_other_home(state, task, worker):
        return {task: "released"}  # it did not run, and says nothing of whether it can
    rare = task.rare
    rare.erred_on.add(worker.address)
    if rare.retries > 0 and message.retry:
        rare.retries -= 1
        rare.retry_at = retry_at(state, task)
        return {task: "waiting"}
    rare.exception = message.exception
    rare.traceback = message.traceback
    rare.exception_text = message.exception_text
    rare.traceback_text = message.traceback_text
    return {task: "erred"}


def on_reschedule(state: SchedulerCore, worker: WorkerState, message: RescheduleTask) -> Recommendations:
    """A task is to be placed anew."""
    task = state.tasks.get(message.key)
    if task is None or task.attempt != message.attempt or task.processing_on is not worker:
        promises.on_given_back(state, worker, task, message.attempt)
        return {}
    return {task: "released"}


def on_long_running(state: SchedulerCore, worker: WorkerState, message: LongRunning) -> Recommendations:
    """A task has seceded: it takes no thread and no part of the worker's occupancy any more."""
    task = state.tasks.get(message.key)
    if task is None or task.attempt != message.attempt or task.processing_on is not worker:
        return {}
    if task not in worker.long_running:
        worker.long_running.add(task)
        task.group.prefix.observe(message.compute_duration)
        change_cost(state, worker, task, 0.0)
    return {}


def on_add_keys(state: SchedulerCore, worker: WorkerState, message: AddKeys) -> Recommendations:
    """A worker holds copies of results; those that nobody needs are freed, and those that are missing are welcome.

    A copy that it has been told to free meanwhile is on record until it says that it has.
    """
    recommendations: Recommendations = {}
    unknown = []
    for key in message.keys:
        task = state.tasks.get(key)
        if task is None or task.state in ("released", "erred"):
            unknown.append(key)
            continue
        if key in worker.dropping or task.processing_on is worker:
            continue  # its answer to that request, or to that assignment, is still to come
        add_replica(task, worker)
        if task.state != "memory":
            recommendations[task] = "memory"
    for key in unknown:
        state.free(worker, key)
    return recommendations


def on_released_data(state: SchedulerCore, worker: WorkerState, message: ReleasedData) -> Recommendations:
    """A worker has dropped a copy."""
    requests = worker.dropping.pop(message.key, 0)
    if requests > 1:
        worker.dropping[message.key] = requests - 1
    task = state.tasks.get(message.key)
    if task is not None and is_stale(task, worker, message.scattering):
        return {}  # a client has put it there anew meanwhile
    return _lose_replica(state, message.key, worker)


def _lose_replica(state: SchedulerCore, key: Key, worker: WorkerState) -> Recommendations:
    task = state.tasks.get(key)
    if task is None or worker not in task.who_has:
        return {}
    drop_replica(task, worker)
    return {} if task.who_has or task.state != "memory" else {task: "released"}


def on_missing(state: SchedulerCore, worker: WorkerState, message: MissingData) -> Recommendations:
    """A worker did not find data where it should have been."""
    recommendations = lose_missing(state, message.key, message.worker)
    return {**recommendations, **on_request_who_has(state, worker, RequestWhoHas([message.key]))}


def lose_missing(state: SchedulerCore, key: Key, address: str) -> Recommendations:
    """A worker that was asked for a copy did not have it. If it has it now, it is not to keep it unknown to us."""
    holder = state.workers.get(address)
    task = state.tasks.get(key)
    if holder is None or task is None or holder not in task.who_has:
        return {}
    state.free(holder, key)
    return _lose_replica(state, key, holder)


def on_request_who_has(state: SchedulerCore, worker: WorkerState, message: RequestWhoHas) -> Recommendations:
    """A worker asks where data is; it is not where the question comes from, whatever we believed."""
    recommendations: Recommendations = {}
    who_has = []
    nbytes = []
    for key in message.keys:
        task = state.tasks.get(key)
        if task is not None and worker in task.who_has:
            recommendations.update(lose_missing(state, key, worker.address))
        who_has.append([holder.address for holder in task.who_has] if task is not None else [])
        nbytes.append(task.get_nbytes() if task is not None else 0)
    state.send(worker, RefreshWhoHas(message.keys, who_has, nbytes))
    return recommendations


def retry_keys(state: SchedulerCore, keys: Iterable[Key]) -> tuple[Recommendations, list[Key]]:
    """Recommend the failed tasks at the root of these to be tried again."""
    recommendations: Recommendations = {}
    retried = []
    for key in keys:
        task = state.tasks.get(key)
        if task is None or task.state != "erred":
            continue
        retried.append(key)
        recommendations[task.exception_blame or task] = "released"
    return recommendations, retried


Handler = Callable[["SchedulerCore", "WorkerState", Any], "Recommendations"]

#: What the state machine does with each message of a worker; those that are absent are the shell's.
HANDLERS: dict[type, Handler] = {
    TaskFinished: on_finished,
    TaskFailed: on_failed,
    RescheduleTask: on_reschedule,
    LongRunning: on_long_running,
    AddKeys: on_add_keys,
    ReleasedData: on_released_data,
    MissingData: on_missing,
    CannotSend: on_cannot_send,
    RequestWhoHas: on_request_who_has,
    StealAnswer: steal_requests.on_answer,
}
