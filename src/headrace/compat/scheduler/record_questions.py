"""Questions about placement as documented, answered without placing anything; and the order of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.common.keys import Key
from headrace.messages.base import Payload
from headrace.scheduler.state.data.replicas import add_replica as add_replica
from headrace.scheduler.state.data.replicas import drop_replica as drop_replica
from headrace.scheduler.state.data.replicas import replicated as replicated
from headrace.scheduler.state.placing.load import check_load as check_load
from headrace.scheduler.state.placing.load import comm_cost
from headrace.scheduler.state.placing.placement import is_root_like
from headrace.scheduler.state.placing.restrictions import all_allowed, may_run

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.computations import Computation
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState


def valid_workers(state: SchedulerCore, task: TaskState) -> set[WorkerState] | None:
    """The running workers that may run a task; `None` when all may."""
    found = all_allowed(state, task)
    return None if found is None else set(found)


def worker_objective(state: SchedulerCore, task: TaskState, worker: WorkerState) -> tuple[float, int]:
    """Seconds until the task could start on the worker, then bytes stored there: smaller is better."""
    return worker.occupancy / worker.nthreads + comm_cost(state, worker, task), worker.nbytes


def decide_worker(state: SchedulerCore, task: TaskState) -> WorkerState | None:
    """The worker that the task would best run on; looks at all that may."""
    candidates = valid_workers(state, task)
    pool = state.running if candidates is None else candidates
    return min(pool, key=lambda worker: worker_objective(state, task, worker), default=None)


def in_order(tasks: Iterable[Key], dependencies: Mapping[Key, Iterable[Key]]) -> list[Key]:
    """Tasks with dependencies before dependents; what is not among them is left out.

    Raises:
        ValueError: they depend on each other in a circle.
    """
    left = {key: set(dependencies.get(key, ())) for key in tasks}
    dependents: dict[Key, list[Key]] = {}
    for key, needed in left.items():
        needed.intersection_update(left)
        for each in needed:
            dependents.setdefault(each, []).append(key)
    order = [key for key, needed in left.items() if not needed]
    for key in order:  # grows
        for dependent in dependents.get(key, ()):
            left[dependent].discard(key)
            if not left[dependent]:
                order.append(dependent)
    if len(order) < len(left):
        circle = [key for key, needed in left.items() if needed]
        raise ValueError(f"these tasks depend on each other in a circle, or on such: {circle[:10]}")
    return order


# Records


def new_task(
    state: SchedulerCore,
    key: Key,
    spec: tuple[Payload, Payload] | None,
    finish: str,
    computation: Computation | None,
) -> TaskState:
    """Make a record, released; see `SchedulerState.new_task`."""
    if key in state.tasks:
        raise ValueError(f"the task {key!r} is known already: {state.tasks[key]!r}")
    if finish != "released":
        raise ValueError(f"a new task is released, and is moved to {finish!r} by a transition")
    task = state.tasks.new(key)
    if spec is not None:
        task.function, task.arguments = state.functions.intern(spec[0]), spec[1]
    if computation is not None:
        computation.groups.add(task.group)
    return task


def set_restrictions(task: TaskState, names: list[str]) -> None:
    """Let a task run on these workers only; an empty list means all."""
    task.options = msgspec.structs.replace(task.options, workers=names)


def claim(task: TaskState, worker: WorkerState, times: int) -> None:
    """Count what a task takes of a worker's abstract resources, so many times."""
    for name, amount in task.options.resources.items():
        worker.claimed_resources[name] = worker.claimed_resources.get(name, 0.0) + times * amount


# Placement


def is_idle(state: SchedulerCore) -> bool:
    """Whether there is nothing to do."""
    return not (state.queued or state.unrunnable or any(worker.processing for worker in state.workers.values()))


def is_rootish(state: SchedulerCore, task: TaskState) -> bool:
    """Whether a task is one of many that need little, and may run anywhere."""
    return all_allowed(state, task) is None and is_root_like(state, task)


def is_unoccupied(state: SchedulerCore, worker: WorkerState, occupancy: float, processing: int) -> bool:
    """Whether a worker with so much to do has room for more."""
    average = state.total_occupancy / state.total_nthreads if state.total_nthreads else 0.0
    return processing < worker.nthreads or occupancy < worker.nthreads * average / 2


def decide_sibling(state: SchedulerCore, task: TaskState) -> WorkerState | None:
    """The worker of a root-like task's neighbours while their run lasts, else the least busy that may run it."""
    group = task.group
    if group.last_worker in state.running and group.last_worker_tasks_left > 0:
        return group.last_worker
    return min(state.running, key=_busyness, default=None)


def decide_open(state: SchedulerCore) -> WorkerState | None:
    """The least busy worker with room for a root-like task."""
    return min(state.open_workers, key=_busyness, default=None)


def _busyness(worker: WorkerState) -> tuple[float, int]:
    return len(worker.processing) / max(1, worker.nthreads), worker.nbytes


def runnable_on(state: SchedulerCore, worker: WorkerState) -> list[TaskState]:
    """Tasks that waited for a worker such as this, the most urgent first."""
    if worker not in state.running:
        return []
    return sorted(task for task in state.unrunnable if may_run(state, task, worker))


def decide_among(
    ts: TaskState,
    all_workers: Iterable[WorkerState],
    valid_workers: Iterable[WorkerState] | None,
    objective: Callable[[WorkerState], Any],
) -> WorkerState | None:
    """The worker for which `objective` is least, among the holders of a task's data (else all) that may run it."""
    allowed = set(all_workers) if valid_workers is None else set(valid_workers)
    holders = {worker for needed in ts._dependencies for worker in needed.who_has}
    return min(holders & allowed or allowed, key=objective, default=None)
