"""Plans for replicas: which workers fetch, drop or pass on which results.

Nothing is sent here and no record changes; see `replicas`. No plan drops the last replica of a result.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState


def measured(worker: WorkerState, measure: str) -> int:
    """Bytes of memory in use on a worker by one of the documented measures ("process", "optimistic", "managed", …)."""
    return int(getattr(worker.memory, measure))


def plan_replicas(
    tasks: Iterable[TaskState], targets: list[WorkerState], wanted: int, branching_factor: int
) -> dict[WorkerState, list[TaskState]]:
    """One round of copying towards `wanted` copies among the targets: which of them fetch what.

    Every holder gives a result to at most `branching_factor` others a round; those with the least data receive first.
    An empty plan means that all is there.
    """
    plan: dict[WorkerState, list[TaskState]] = {}
    loads = {worker: worker.nbytes for worker in targets}
    for task in tasks:
        if task.options.actor:
            continue  # it lives in one place
        lacking = [worker for worker in targets if worker not in task.who_has]
        missing = min(wanted - (len(targets) - len(lacking)), len(task.who_has) * branching_factor)
        if missing > 0:
            for worker in heapq.nsmallest(missing, lacking, key=loads.__getitem__):
                plan.setdefault(worker, []).append(task)
                loads[worker] += task.get_nbytes()
    return plan


def plan_surplus(
    tasks: Iterable[TaskState], targets: list[WorkerState], wanted: int
) -> dict[WorkerState, list[TaskState]]:
    """Copies beyond `wanted` among the targets, on those with the most data."""
    plan: dict[WorkerState, list[TaskState]] = {}
    loads = {worker: worker.nbytes for worker in targets}
    for task in tasks:
        holders = [worker for worker in targets if worker in task.who_has]
        surplus = min(len(holders) - wanted, len(task.who_has) - 1)
        needed = {waiter.processing_on for waiter in task._waiters or ()}
        if surplus > 0:
            free = [worker for worker in holders if worker not in needed]
            for worker in heapq.nlargest(surplus, free, key=loads.__getitem__):
                plan.setdefault(worker, []).append(task)
                loads[worker] -= task.get_nbytes()
    return plan


@dataclass(frozen=True)
class RebalanceOptions:
    """Limits that say when memory is so uneven that results are moved.

    Attributes:
        measure: which memory counts, a name that `measured` knows.
        sender_min: share of its limit below which a worker gives nothing away.
        recipient_max: share of its limit above which a worker receives nothing.
        gap: share of its limit by which a worker that gives and one that receives must differ at least.
    """

    measure: str = "optimistic"
    sender_min: float = 0.3
    recipient_max: float = 0.6
    gap: float = 0.1


@dataclass
class _Giver:
    worker: WorkerState
    memory: float
    until: float
    offers: list[TaskState]


def plan_rebalance(
    state: SchedulerCore, tasks: Iterable[TaskState] | None, workers: Iterable[WorkerState], options: RebalanceOptions
) -> list[tuple[WorkerState, WorkerState, TaskState]]:
    """Moves (from, to, result) that even out memory: from above the mean to below it, results that came first first.

    Policy of the documented `Scheduler.rebalance`: workers within half the gap of the mean take no part; copies do not
    become fewer, since a result does not go where it is already. Workers without a limit are held to the mean alone.

    Args:
        tasks: results that may be moved; all by default.
    """
    chosen = set(tasks) if tasks is not None else None
    memory = {worker: measured(worker, options.measure) for worker in workers}
    if len(memory) < 2:
        return []
    mean = sum(memory.values()) / len(memory)
    givers: list[tuple[float, int, _Giver]] = []
    takers: list[tuple[float, int, WorkerState, float]] = []
    for number, (worker, nbytes) in enumerate(memory.items()):
        limit = worker.memory_limit
        half = options.gap * limit / 2
        if nbytes > mean + half and nbytes >= options.sender_min * limit:
            offers = [task for task in worker.has_what if (chosen is None or task in chosen) and not task.options.actor]
            giver = _Giver(worker, nbytes, max(mean + half, options.sender_min * limit), offers[::-1])
            givers.append((mean - nbytes, number, giver))
        elif nbytes < mean - half and worker in state.running and (not limit or nbytes < options.recipient_max * limit):
            until = min(mean - half, options.recipient_max * limit if limit else mean)
            takers.append((nbytes - mean, number, worker, until))
    heapq.heapify(givers)
    heapq.heapify(takers)
    moves = []
    planned: set[tuple[WorkerState, TaskState]] = set()
    while givers and takers:
        _, number, giver = heapq.heappop(givers)
        task = giver.offers.pop() if giver.offers else None
        if task is None or giver.memory <= giver.until:
            continue
        nbytes = task.get_nbytes()
        # A result so large that the giver would end as far below the mean as it is above stays.
        taker = _take(takers, task, nbytes, mean, planned) if giver.memory - nbytes / 2 > mean else None
        if taker is not None:
            moves.append((giver.worker, taker, task))
            giver.memory -= nbytes
        heapq.heappush(givers, (mean - giver.memory, number, giver))
    return moves


def _take(
    takers: list[tuple[float, int, WorkerState, float]],
    task: TaskState,
    nbytes: int,
    mean: float,
    planned: set[tuple[WorkerState, TaskState]],
) -> WorkerState | None:
    """The worker farthest below the mean that lacks the result and has room for it; it is then that much nearer."""
    passed = []
    found = None
    while takers:
        entry = heapq.heappop(takers)
        below, number, worker, until = entry
        memory = below + mean
        limit = worker.memory_limit
        if worker in task.who_has or (worker, task) in planned or (limit and memory + nbytes > limit):
            passed.append(entry)
            continue
        if memory + nbytes / 2 >= mean:
            passed.append(entry)  # it would end as far above the mean as it is below
            continue
        found = worker
        planned.add((worker, task))
        if memory + nbytes < until:
            heapq.heappush(takers, (below + nbytes, number, worker, until))
        break
    for entry in passed:
        heapq.heappush(takers, entry)
    return found
