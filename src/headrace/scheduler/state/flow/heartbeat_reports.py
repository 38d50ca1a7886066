"""What workers tell with each heartbeat: that they live, how they are, how long their tasks have been running, and how
fast data came to them.

Costs in proportion to the tasks that run, never to those that wait. Says nothing to anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from headrace.messages.worker import WorkerHeartbeat
from headrace.scheduler.state.placing.load import change_cost, expected_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.workers import WorkerState

#: A task that has run for so many times what was expected is expected to take so many times what it has run.
OVERDUE = 2


_K = TypeVar("_K")

#: Types of results by which bandwidths are kept; a program that makes up types without end gets no more.
MOST_TYPES = 1000


def note_bandwidth(state: SchedulerCore, worker: WorkerState, told: dict[str, Any]) -> None:
    """Learn how fast data travels between workers, from one worker's measurements since its last heartbeat.

    The average over workers moves towards each by one part in their number; that of a pair of workers, or of a type, as
    often as there were transfers (documented policy). What is no positive number is left out.

    Args:
        told: `total`, the worker's average so far, in bytes per second; `workers` and `types`, by peer and by name of
            a type, the sum of the speeds that were measured and their number; `measured`, how often it has at all:
            the average of a worker that never has is only where it begins.
    """
    share = 1 / max(1, len(state.workers))
    total = told.get("total")
    if _is_speed(total):
        worker.bandwidth = total
        if told.get("measured", 1):
            state.bandwidth += share * (total - state.bandwidth)
    for peer, mean, count in _measurements(told.get("workers")):
        if peer in state.workers:
            _learn(state.bandwidth_workers, (worker.address, peer), mean, count, share)
    for name, mean, count in _measurements(told.get("types")):
        if name in state.bandwidth_types or len(state.bandwidth_types) < MOST_TYPES:
            _learn(state.bandwidth_types, name, mean, count, share)


def _learn(averages: dict[_K, float], key: _K, mean: float, count: int, share: float) -> None:
    known = averages.get(key)
    averages[key] = mean if known is None else known + (1 - (1 - share) ** count) * (mean - known)


def _is_speed(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and 0 < value < float("inf")


def _measurements(told: object) -> Iterable[tuple[str, float, int]]:
    """(what, mean of its speeds, how many) of what is well formed."""
    for key, value in told.items() if isinstance(told, dict) else ():
        if isinstance(value, (list, tuple)) and len(value) == 2:
            speeds, count = value
            if _is_speed(speeds) and isinstance(count, int) and count > 0:
                yield str(key), speeds / count, count


def forget_bandwidths(state: SchedulerCore, worker: WorkerState) -> None:
    """A worker has gone, and what was measured between it and others with it."""
    known = state.bandwidth_workers
    if known:
        for other in (*state.workers, worker.address):
            known.pop((worker.address, other), None)
            known.pop((other, worker.address), None)


def on_heartbeat(state: SchedulerCore, worker: WorkerState, message: WorkerHeartbeat, recent_to_old: float) -> None:
    """Record a heartbeat, and expect more of tasks that are overdue: twice their elapsed time (documented policy).

    Args:
        recent_to_old: see `WorkerState.on_metrics`.
    """
    worker.heard_at, worker.last_seen = state.now, state.shown
    worker.time_delay = message.now - state.shown
    worker.on_metrics(message.metrics, state.now, recent_to_old)
    bandwidth = message.metrics.get("bandwidth")
    if isinstance(bandwidth, dict):
        note_bandwidth(state, worker, bandwidth)
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
