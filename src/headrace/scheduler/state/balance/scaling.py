"""Number of workers that the work needs, and those of the present ones that can go at little cost.

Pure planning: nothing is sent and no record changes. Closing and starting workers is for whoever asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from headrace.common.status import Status
from headrace.scheduler.state.placing.load import expected_seconds

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.workers import WorkerState

#: Memory to keep, as a multiple of the data held, when nobody says otherwise.
MEMORY_RATIO = 2.0
#: Share of all memory that data may take before more workers are asked for.
CROWDED = 0.6


def work_seconds(state: SchedulerCore) -> float:
    """Seconds of work that one thread would have with all that could run now."""
    waiting = 0.0
    if state.queued or state.unrunnable:
        for group in state.tasks.groups.values():
            states = group.states
            count = states["queued"] + states["no-worker"]
            if count:
                waiting += count * expected_seconds(state, group.prefix)
    return state.total_occupancy + waiting


def ready_tasks(state: SchedulerCore, limit: float) -> int:
    """Number of tasks that are running or could run now; counting stops once there are more than `limit`."""
    total = len(state.queued) + len(state.unrunnable)
    for worker in state.workers.values():
        if total > limit:
            break
        total += len(worker.processing)
    return total


def target_workers(state: SchedulerCore, target_duration: float) -> int:
    """The number of workers with which the work that can run now ends within `target_duration` seconds.

    There are never more threads than tasks; twice as many workers as now if data take over 60 % of their memory; and
    workers beyond the number needed stay as long as they work or their memory is needed.
    """
    count = len(state.workers)
    threads_each = max(1.0, state.total_nthreads / count) if count else 1.0
    threads = float(math.ceil(work_seconds(state) / target_duration))
    threads = min(threads, ready_tasks(state, threads))
    if state.unrunnable or state.queued:
        threads = max(threads, 1.0)
    wanted = math.ceil(threads / threads_each)
    limit = sum(worker.memory_limit for worker in state.workers.values())
    held = sum(worker.nbytes for worker in state.workers.values())
    if limit and held > CROWDED * limit:
        wanted = max(wanted, 2 * count)
    if wanted >= count:
        return wanted
    return count - len(plan_closing(state))


def plan_closing(
    state: SchedulerCore,
    *,
    memory_ratio: float | None = None,
    n: int | None = None,
    key: Callable[[WorkerState], Any] | None = None,
    minimum: int | None = None,
    target: int | None = None,
    allowed: Iterable[WorkerState] | None = None,
) -> list[WorkerState]:
    """Workers that can be closed, cheapest first: those without work, then those with the least data.

    None on which a task runs that has seceded, whatever number is asked for.

    Args:
        memory_ratio: memory to keep, as a multiple of the data held (2 if neither this nor a number is given). Workers
            without a limit neither add to the memory nor need any kept for their data.
        n, target: how many to close, or to have afterwards; workers that work are then closed too, last.
        minimum: how many to keep at least.
        key: workers with an equal value go together or stay together.
        allowed: workers that may be closed; all by default.
    """
    count = len(state.workers)
    if target is not None and n is None:
        n = max(0, count - target)
    least = max(minimum or 0, 0)
    if n is None and memory_ratio is None:
        memory_ratio = MEMORY_RATIO
    if n == 0 and memory_ratio is None:
        return []
    if n is None and all(worker.processing for worker in state.workers.values()):
        return []
    groups: dict[Any, list[WorkerState]] = {}
    for worker in state.workers.values() if allowed is None else allowed:
        groups.setdefault(key(worker) if key else worker.address, []).append(worker)
    limited = all(worker.memory_limit for worker in state.workers.values())
    held = sum(worker.nbytes for worker in state.workers.values())
    memory = sum(worker.memory_limit for worker in state.workers.values())
    waiting = bool(state.queued or state.unrunnable)
    chosen: list[WorkerState] = []
    for group in sorted(groups.values(), key=_cost):
        # A task that has seceded may run for days, or be what waits for all the others.
        if count - len(group) < least or any(worker.long_running for worker in group):
            continue
        limit = sum(worker.memory_limit for worker in group)
        by_number = n is not None and len(chosen) + len(group) <= n
        by_memory = (
            memory_ratio is not None
            and not waiting
            and not any(worker.processing for worker in group)
            and (memory - limit >= memory_ratio * held if limited else not held or count > len(group))
        )
        if not by_number and not by_memory:
            break
        chosen += group
        memory -= limit
        count -= len(group)
    return chosen


def _cost(group: Iterable[WorkerState]) -> tuple[bool, bool, int]:
    """Cost of closing these workers: their work is done again, their data moved. Those on their way out go first."""
    return (
        any(worker.processing for worker in group),
        all(worker.status is not Status.closing_gracefully for worker in group),
        sum(worker.nbytes for worker in group),
    )
