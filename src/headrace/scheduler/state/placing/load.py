"""Load of workers: expected durations, costs and occupancy, and who is idle, saturated or open.

A cost is fixed when a task is sent and taken back as it was, so that occupancy needs no second look at averages; it
changes only for tasks that secede or run for much longer (see `heartbeats`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.status import Status
from headrace.messages.base import NO_OPTIONS

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.groups import TaskPrefix
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState

#: Root-like tasks that are known to be short are sent ahead of need: so many expected seconds and tasks a thread. The
#: seconds cover a turn of the scheduler's loop; the number bounds what a wrong estimate can pile on one worker.
AHEAD_SECONDS = 0.02
AHEAD_TASKS = 256
#: A worker with more tasks than threads is saturated if over so many expected seconds of work a thread wait there.
SATURATED_SECONDS = 0.4
#: A worker without short tasks draws from the queue when it has room for so many.
RUN = 2


def expected_seconds(state: SchedulerCore, prefix: TaskPrefix) -> float:
    """Seconds that tasks of the prefix are expected to compute: as those before did, else what the settings assume."""
    average = prefix.duration_average
    return average if average >= 0 else state.options.unknown_duration


def comm_cost(state: SchedulerCore, worker: WorkerState, task: TaskState) -> float:
    """Seconds that the dependencies of a task are expected to take to the worker, by their size alone."""
    missing = 0
    for dependency in task._dependencies:
        if worker not in dependency.who_has:
            missing += dependency.get_nbytes()
    return missing / state.bandwidth if missing else 0.0


def begin_processing(state: SchedulerCore, worker: WorkerState, task: TaskState, cost: float) -> None:
    """Account for a task that is sent to a worker."""
    if not worker.processing:
        state.busy.add(worker)
    worker.processing[task] = cost
    worker.occupancy += cost
    state.total_occupancy += cost
    task.processing_on = worker
    if task.options is not NO_OPTIONS:
        for name, amount in task.options.resources.items():
            worker.claimed_resources[name] = worker.claimed_resources.get(name, 0.0) + amount
    _check_full(state, worker)


def end_processing(state: SchedulerCore, worker: WorkerState, task: TaskState) -> None:
    """Account for a task that its worker has finished, or is not to run any more."""
    task.processing_on = None
    cost = worker.processing.pop(task, 0.0)
    worker.occupancy -= cost
    state.total_occupancy -= cost
    if worker.long_running:
        worker.long_running.discard(task)
    if worker.executing:
        worker.executing.pop(task, None)
    if task.options is not NO_OPTIONS:
        for name, amount in task.options.resources.items():
            worker.claimed_resources[name] -= amount
    if not worker.processing:
        # Sums of floats drift; an idle worker is the chance to start from nothing, an idle cluster for all of them.
        state.busy.discard(worker)
        state.total_occupancy = max(0.0, state.total_occupancy - worker.occupancy) if state.busy else 0.0
        worker.occupancy = 0.0
        if worker.claimed_resources:
            worker.claimed_resources = dict.fromkeys(worker.claimed_resources, 0.0)
    _check_free(state, worker)


def change_cost(state: SchedulerCore, worker: WorkerState, task: TaskState, cost: float) -> None:
    """Expect another number of seconds of a task that its worker has been sent already."""
    difference = cost - worker.processing[task]
    worker.processing[task] = cost
    worker.occupancy += difference
    state.total_occupancy += difference
    check_load(state, worker)


def check_load(state: SchedulerCore, worker: WorkerState) -> None:
    """Keep the sets of idle, saturated and open workers in step with one worker.

    Idle: fewer tasks than threads. Saturated: more tasks than threads, and over `SATURATED_SECONDS` of work a thread.
    Open: from when there is room for a run of root-like tasks until there is none for another task; neighbours in the
    graph, which tend to be needed together, then go to one worker although several draw from the queue.
    """
    _check_full(state, worker)
    _check_free(state, worker)


def is_full(worker: WorkerState) -> bool:
    """Whether a worker has no room for another root-like task."""
    threads, count = worker.nthreads, len(worker.processing) - len(worker.long_running)
    ahead = count >= AHEAD_TASKS * threads or worker.occupancy >= AHEAD_SECONDS * threads
    return count >= worker.slots and ahead


def has_room(worker: WorkerState) -> bool:
    """Whether a worker has room for a run of root-like tasks."""
    threads, count = worker.nthreads, len(worker.processing) - len(worker.long_running)
    short = count < AHEAD_TASKS * threads / 2 and worker.occupancy < AHEAD_SECONDS * threads / 2
    return count <= max(0, worker.slots - RUN) or short


def _check_full(state: SchedulerCore, worker: WorkerState) -> None:
    """The worker has more to do than before: it may be idle and open no longer, and saturated now."""
    threads = worker.nthreads
    count = len(worker.processing) - len(worker.long_running)
    running = worker.status is Status.running
    if (count >= threads or not running) and worker in state.idle:
        del state.idle[worker]
    if count > threads and worker.occupancy > SATURATED_SECONDS * threads and running:
        state.saturated[worker] = None
    if worker in state.open_workers and (
        not running
        or (count >= worker.slots and (count >= AHEAD_TASKS * threads or worker.occupancy >= AHEAD_SECONDS * threads))
    ):
        del state.open_workers[worker]


def _check_free(state: SchedulerCore, worker: WorkerState) -> None:
    """The worker has less to do than before: it may be saturated no longer, and idle and open now."""
    threads = worker.nthreads
    count = len(worker.processing) - len(worker.long_running)
    running = worker.status is Status.running
    if worker in state.saturated and (
        count <= threads or worker.occupancy <= SATURATED_SECONDS * threads or not running
    ):
        del state.saturated[worker]
    if not running:
        return
    if count < threads and worker not in state.idle:
        state.idle[worker] = None
    if worker not in state.open_workers and (
        count <= max(0, worker.slots - RUN)
        or (count < AHEAD_TASKS * threads / 2 and worker.occupancy < AHEAD_SECONDS * threads / 2)
    ):
        state.open_workers[worker] = None
