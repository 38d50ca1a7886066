"""Questions about placement as documented, answered without placing anything; and the order of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from headrace.common.keys import Key

from .load import comm_cost
from .restrictions import all_allowed

if TYPE_CHECKING:
    from .state import SchedulerState
    from .tasks import TaskState
    from .workers import WorkerState


def valid_workers(state: SchedulerState, task: TaskState) -> set[WorkerState] | None:
    """The running workers that may run a task; `None` when all may."""
    found = all_allowed(state, task)
    return None if found is None else set(found)


def worker_objective(state: SchedulerState, task: TaskState, worker: WorkerState) -> tuple[float, int]:
    """Seconds until the task could start on the worker, then bytes stored there: smaller is better."""
    return worker.occupancy / worker.nthreads + comm_cost(state, worker, task), worker.nbytes


def decide_worker(state: SchedulerState, task: TaskState) -> WorkerState | None:
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
