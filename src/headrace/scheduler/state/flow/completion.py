"""Reports of workers about tasks and results: one function a message, and the table of them."""

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
from headrace.scheduler.state.data.replicas import add_replica, drop_replica
from headrace.scheduler.state.data.scatters import is_stale
from headrace.scheduler.state.placing import promises
from headrace.scheduler.state.placing.assignments import is_current, is_promised
from headrace.scheduler.state.placing.load import change_cost, end_processing
from headrace.scheduler.state.placing.pinned_results import has_other_home, on_cannot_send
from headrace.scheduler.state.transitions.running import finish

from .retry_delays import retry_at

if TYPE_CHECKING:
    from headrace.messages.base import Message
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState
    from headrace.scheduler.state.transitions.engine import Recommendations


def on_finished(state: SchedulerCore, worker: WorkerState, message: TaskFinished) -> Recommendations:
    """Take a result that a worker has computed, and holds.

    A short way: processing → memory without a wave. Its condition is that the report is that of the assignment that
    holds; then nothing of the task is left to undo, and a task that was promised to follow it stays promised.
    """
    task = state.tasks.get(message.key)
    if not is_current(task, worker, message.attempt):
        return _on_stale_result(state, worker, task, message)
    if not state.short_ways:
        record_by_parts(task, worker, message)
        state.finished[task] = message.result
        return {task: "memory"}
    end_processing(state, worker, task)
    record_result(task, worker, message)
    recommendations: Recommendations = {}
    finish(state, task, message.result, recommendations)
    return recommendations


def record_result(task: TaskState, worker: WorkerState, message: TaskFinished) -> None:
    """Record a run and its result, the first replica: durations, metadata, type, size, and where it is.

    One place for reports of any assignment, in one function since every task comes here; `record_by_parts` says the
    same in terms of what the records offer, and the simulation compares the two.
    """
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
    task.type = message.type
    if message.type not in group.types:
        group.types.add(message.type)
    nbytes, known = message.nbytes, task.nbytes
    task.nbytes = nbytes
    if known < 0:
        group.nbytes_total += nbytes
    else:  # computed again: counted already
        group.nbytes_total += nbytes - known
        group.recomputed += 1
    task.who_has = worker.alone
    worker.has_what[task] = None
    worker.nbytes += nbytes
    if task.options.actor:
        worker.actors.add(task)


def record_by_parts(task: TaskState, worker: WorkerState, message: TaskFinished) -> None:
    """Record what `record_result` does, by the records' own methods: the long way of `on_finished`."""
    group = task.group
    if message.stop:
        group.prefix.add_duration("compute", message.start, message.stop)
        group.add_duration("compute", message.start, message.stop)
    for action, began, ended in message.startstops:
        group.add_duration(action, began, ended)
    if message.metadata:
        task.metadata.update(message.metadata)
    task.type = message.type
    group.add_type(message.type)
    group.recomputed += task.nbytes >= 0
    task.set_nbytes(message.nbytes)
    add_replica(task, worker)
    if task.options.actor:
        worker.actors.add(task)


def _on_stale_result(
    state: SchedulerCore, worker: WorkerState, task: TaskState | None, message: TaskFinished
) -> Recommendations:
    """Take the answer to an assignment that has been taken back: it may be of use, or the worker is to drop it."""
    if task is None or task.state in ("released", "forgotten", "erred"):
        state.free(worker, message.key)
        return {}
    attempt = message.attempt
    # What was promised can be finished before the promise is due: what it needs was recomputed, or came late.
    if attempt > worker.first_attempt and not is_promised(task, worker, attempt, state):
        return {}  # it was called off on this very connection: the worker has freed it, or will
    if task.processing_on is worker:
        return {}  # sent there again since: that answer will come
    if task.state == "memory":
        if task.options.actor:
            state.free(worker, message.key)  # the actor lives elsewhere
        else:
            add_replica(task, worker)
        return {}
    # The worker began it before its connection broke. Someone still wants it, and here it is.
    record_result(task, worker, message)
    return {task: "memory"}


def on_failed(state: SchedulerCore, worker: WorkerState, message: TaskFailed) -> Recommendations:
    """Run a task that raised again, now or later, if it has retries left for such an error; else it has erred."""
    task = state.tasks.get(message.key)
    if not is_current(task, worker, message.attempt):
        return _on_stale_failure(state, worker, task, message)
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


def _on_stale_failure(
    state: SchedulerCore, worker: WorkerState, task: TaskState | None, message: TaskFailed
) -> Recommendations:
    """Have a worker forget the failure of an assignment that has been taken back: it keeps failed tasks until told."""
    if task is not None and task.processing_on is worker:
        return {}  # sent there again since: that answer will come
    if task is not None and state.promises.workers.get(task) is worker:
        promises.on_given_back(state, worker, task, message.attempt)
    else:
        state.free(worker, message.key)
    return {}


def on_reschedule(state: SchedulerCore, worker: WorkerState, message: RescheduleTask) -> Recommendations:
    """A task is to be placed anew."""
    task = state.tasks.get(message.key)
    if not is_current(task, worker, message.attempt):
        promises.on_given_back(state, worker, task, message.attempt)
        return {}
    return {task: "released"}


def on_long_running(state: SchedulerCore, worker: WorkerState, message: LongRunning) -> Recommendations:
    """A task has seceded: it takes no thread and no part of the worker's occupancy any more."""
    task = state.tasks.get(message.key)
    if not is_current(task, worker, message.attempt):
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


#: What the core takes of workers; the other messages of `FromWorker` are the shell's.
WORKER_MESSAGES: dict[type[Message], Callable[[SchedulerCore, WorkerState, Any], Recommendations]] = {
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
