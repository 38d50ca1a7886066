"""What workers tell with each heartbeat: that they live, how they are, and how long their tasks have been running.

Costs in proportion to the tasks that run, never to those that wait. Says nothing to anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.messages.worker import WorkerHeartbeat

from .load import change_cost, expected_seconds

if TYPE_CHECKING:
    from .state import SchedulerState
    from .workers import WorkerState

#: A task that has run for so many times what was expected is expected to take so many times what it has run.
OVERDUE = 2


def on_heartbeat(state: SchedulerState, worker: WorkerState, message: WorkerHeartbeat, recent_to_old: float) -> None:
    """Record a heartbeat, and expect more of tasks that are overdue: twice their elapsed time (documented policy).

    Args:
        recent_to_old: see `WorkerState.on_metrics`.
    """
    worker.last_seen = state.now
    worker.time_delay = message.now - state.now
    worker.on_metrics(message.metrics, state.now, recent_to_old)
    bandwidth = message.metrics.get("bandwidth")
    if isinstance(bandwidth, dict) and isinstance(bandwidth.get("total"), (int, float)):
        worker.bandwidth = bandwidth["total"]
    worker.executing = {}
    for key, seconds in message.executing.items():
        task = state.tasks.get(key)
        if task is None or task.processing_on is not worker:
            continue
        worker.executing[task] = seconds
        prefix = task.prefix
        if seconds > prefix.max_exec_time:
            prefix.max_exec_time = seconds
        if seconds > OVERDUE * expected_seconds(state, prefix) and task not in worker.long_running:
            change_cost(state, worker, task, OVERDUE * seconds)
