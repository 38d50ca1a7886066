"""Placement: the worker that a task is sent to.

A task with dependencies goes to the worker where it is expected to start earliest, looking at the workers that hold
some of what it needs and a few idle ones. One without goes to an idle worker. Root-like tasks (many of a kind, needing
little) go in runs of neighbours to one worker, so that what is reduced together lies together, and those for which no
worker has room are queued here. Policy: documented `worker_objective`, `worker-saturation` and co-assignment.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from headrace.messages.base import NO_OPTIONS
from headrace.scheduler.state.transitions.parking import to_no_worker, to_queued

from .load import begin_processing, comm_cost, expected_seconds
from .pinned_results import candidates_among
from .promises import promise_next
from .restrictions import lanes, restricted_workers
from .sending import send_task
from .unrunnable import note_too_large

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.groups import TaskGroup
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState
    from headrace.scheduler.state.transitions.engine import Recommendations

#: What a task that has to fetch anything is expected to lose, in seconds, whatever its size.
TRANSFER_LATENCY = 0.003
#: Beside the holders of its dependencies, a task is weighed against so many idle workers; one without dependencies,
#: where nobody is idle, against so many others.
IDLE_SAMPLE = 3
BUSY_SAMPLE = 20


def place(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """Send a task that is ready to a worker, or park it; one that is parked as it should be stays as it is."""
    candidates = None
    if task.options is not NO_OPTIONS:
        candidates = restricted_workers(state, task)
        if task.options.actor and candidates is None:
            # wherever its data are: it stays for long, and will have a thread to itself
            candidates = list(state.running)
    if state.staying:
        candidates = candidates_among(state, task, candidates)
    if candidates is None:
        if is_root_like(state, task):
            worker = _open_worker_for(state, task.group)
            if worker is None and state.running:
                if task.state != "queued":
                    to_queued(state, task, recommendations)
                return
        elif task._dependencies:
            worker = _best_for(state, task, None)
        else:
            worker = _least_busy(state)
    elif not candidates:
        worker = None
    else:
        worker = _best_for(state, task, candidates)
    if worker is not None:
        assign(state, task, worker)
    elif task._dependencies and (state.running if candidates is None else candidates):
        note_too_large(state, task, state.running if candidates is None else candidates)
        recommendations[task] = "erred"
    elif task.state != "no-worker":
        to_no_worker(state, task, recommendations)


def is_root_like(state: SchedulerCore, task: TaskState) -> bool:
    """Whether the task is one of many that need little: over two a thread, on few results in all."""
    group = task.group
    if group.count <= 2 * state.total_nthreads:
        return False
    dependencies = group.dependencies
    if not dependencies:
        return not task._dependencies
    options = state.options
    few = len(dependencies) < options.rootish_groups
    return few and sum([dependency.count for dependency in dependencies]) < options.rootish_tasks


def _open_worker_for(state: SchedulerCore, group: TaskGroup) -> WorkerState | None:
    """The worker for the next root-like task of a group: that of the current run, or the next one with room."""
    worker = group.last_worker
    if worker is not None and group.last_worker_tasks_left > 0 and worker in state.open_workers:
        group.last_worker_tasks_left -= 1
        return worker
    if not state.open_workers:
        return None
    worker = next(iter(state.open_workers))
    # To the end of the line, so that runs go round.
    state.open_workers.move_to_end(worker)
    share = max(1, math.ceil(group.count / max(1, state.total_nthreads)) * worker.nthreads)
    group.last_worker = worker
    group.last_worker_tasks_left = int(min(share, worker.slots)) - 1
    return worker


def _least_busy(state: SchedulerCore) -> WorkerState | None:
    """An idle worker, in turn, or the least occupied of some."""
    for worker in state.idle:
        if not worker.processing or len(state.idle) == 1:
            state.idle.move_to_end(worker)
            return worker
        break
    if state.idle:
        return min(_some(state.idle, BUSY_SAMPLE), key=_load)
    if not state.running:
        return None
    return min(_some(state.running, BUSY_SAMPLE), key=_load)


def _load(worker: WorkerState) -> tuple[float, float, int]:
    return (worker.occupancy / worker.nthreads, len(worker.processing) / worker.nthreads, worker.nbytes)


def _some(workers: OrderedDict[WorkerState, None], number: int) -> Iterable[WorkerState]:
    """So many of the workers, other ones each time; all if there are not more."""
    if len(workers) <= number:
        return workers
    window = list(islice(workers, number))
    for worker in window:
        workers.move_to_end(worker)
    return window


def _best_for(state: SchedulerCore, task: TaskState, candidates: list[WorkerState] | None) -> WorkerState | None:
    """The worker on which the task is expected to start earliest (`worker_objective`).

    `None` if there is none, or if none has memory for what the task needs.
    """
    dependencies = task._dependencies
    if candidates is None and len(dependencies) == 1 and len(dependencies[0].who_has) == 1:
        (worker,) = dependencies[0].who_has
        if worker in state.running and worker.occupancy <= TRANSFER_LATENCY * worker.nthreads:
            return worker
    total = 0
    here: dict[WorkerState, int] = {}
    for dependency in dependencies:
        nbytes = dependency.get_nbytes()
        total += nbytes
        for holder in dependency.who_has:
            here[holder] = here.get(holder, 0) + nbytes
    if candidates is None:
        pool = [worker for worker in here if worker in state.running]
        pool += [worker for worker in _some(state.idle, IDLE_SAMPLE) if worker not in here]
        if not pool:
            return _least_busy(state)
    else:
        pool = candidates
    best: WorkerState | None = None
    best_cost: tuple[float, ...] | None = None
    actor = task.options.actor
    scarce = task.options if candidates is not None and task.options.resources else None
    for worker in pool:
        missing = total - here.get(worker, 0)
        start = worker.occupancy / (worker.nthreads if scarce is None else lanes(worker, scarce))
        if missing:
            start += TRANSFER_LATENCY + missing / state.bandwidth
        cost: tuple[float, ...] = (start, len(worker.processing) / worker.nthreads, worker.nbytes)
        if actor:
            cost = (_count_actors(worker), *cost)
        if best_cost is None or cost < best_cost:
            best, best_cost = worker, cost
    if best is not None and total > best.memory_limit > 0:
        large = (worker for worker in (candidates or state.running) if not 0 < worker.memory_limit < total)
        return min(large, key=_load, default=None)
    return best


def _count_actors(worker: WorkerState) -> int:
    """Actors that live on a worker or are being made there."""
    return len(worker.actors) + sum(task.options.actor for task in worker.processing)


def assign(state: SchedulerCore, task: TaskState, worker: WorkerState) -> None:
    """Move a task to processing on a worker, and tell the worker."""
    start = task.state
    if start == "no-worker":
        del state.unrunnable[task]
    state.move(task, "processing")
    if start == "queued":
        state.queued.left()  # once its state has changed: the queue skips entries by that
    cost = expected_seconds(state, task.group.prefix)
    if task._dependencies:
        cost += comm_cost(state, worker, task)
    begin_processing(state, worker, task, cost)
    send_task(state, task, worker)
    if task._dependents is not None:
        promise_next(state, task, worker)


def fill(state: SchedulerCore, worker: WorkerState) -> None:
    """Give a worker queued tasks while it has room: neighbours in priority, which are neighbours in the graph.

    A short way: queued → processing without a wave. Its condition is that the worker has just got room, so that nothing
    is left to choose; a queued task has all that it needs, and is neither promised nor delayed.
    """
    queued, short = state.queued, state.short_ways
    while queued.count and worker in state.open_workers:
        task = queued.peek()
        if task is None:
            break
        if short:
            assign(state, task, worker)
        else:
            state.send_to(task, worker)


def fill_all(state: SchedulerCore) -> None:
    """Give queued tasks to all workers that have room, in turn; a short way like `fill`."""
    while state.queued and state.open_workers:
        worker = next(iter(state.open_workers))
        task = state.queued.peek()
        if task is None:
            break
        state.open_workers.move_to_end(worker)
        if state.short_ways:
            assign(state, task, worker)
        else:
            state.send_to(task, worker)


def park_queued(state: SchedulerCore) -> Recommendations:
    """Recommend that queued tasks go to no-worker when no worker is left: they are then seen as what they are."""
    return {} if state.running else dict.fromkeys(state.queued, "processing")
