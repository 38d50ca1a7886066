"""Second looks at how long tasks take: a worker whose tasks run far longer than expected is busier than it seemed.

Costs are fixed when tasks are sent, which keeps occupancy a running sum; this brings them in line with what has been
learned since. It walks through tasks, so the shell does it now and then, and not while it has better things to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.scheduler.state.flow.heartbeat_reports import OVERDUE

from .load import check_load, comm_cost, expected_seconds

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState


def expected_duration(state: SchedulerCore, task: TaskState) -> float:
    """Seconds that a task is expected to compute, by what is known of its prefix."""
    prefix = task.group.prefix
    expected = expected_seconds(state, prefix)
    return expected if prefix.duration_average >= 0 else max(expected, prefix.max_exec_time)


def expected_cost(state: SchedulerCore, task: TaskState, worker: WorkerState) -> float:
    """Seconds that a task is expected to take on a worker: transfers, then computing.

    One that is overdue (see `heartbeats`) is taken to be half way.
    """
    cost = expected_duration(state, task)
    if worker.executing:
        so_far = worker.executing.get(task)
        if so_far is not None and so_far > OVERDUE * expected_seconds(state, task.prefix):
            return OVERDUE * so_far
    return cost + comm_cost(state, worker, task)


def reevaluate(state: SchedulerCore, worker: WorkerState) -> None:
    """Bring the costs of what a worker processes, and so its occupancy, in line with what is known by now."""
    for task, seconds in worker.executing.items():
        prefix = task.group.prefix
        if seconds > prefix.max_exec_time:
            prefix.max_exec_time = seconds
    total = 0.0
    for task in worker.processing:
        cost = 0.0 if task in worker.long_running else expected_cost(state, task, worker)
        worker.processing[task] = cost
        total += cost
    state.total_occupancy = max(0.0, state.total_occupancy + total - worker.occupancy)
    worker.occupancy = total
    check_load(state, worker)


def reevaluate_some(state: SchedulerCore, start: int, limit: int) -> int:
    """Reevaluate workers from the given position on, until `limit` tasks were seen; returns where to go on."""
    workers = list(state.workers.values())
    seen = 0
    for step in range(len(workers)):
        worker = workers[(start + step) % len(workers)]
        seen += len(worker.processing)
        reevaluate(state, worker)
        if seen >= limit:
            return (start + step + 1) % len(workers)
    return 0
