"""Work stealing: which tasks of busy workers idle ones should run instead.

Tasks that are cheap to move, for what they take to run, go first (levels of transfer time over computing time, each
twice the one before), and of these the ones that would run last. A task moves only if it is expected to start earlier
where it goes, and load is evened out while requests are still open, so that nobody is robbed twice. Nothing is kept
up to date for this while tasks run: a look costs a bounded scan of the busiest workers, and nothing when none is idle.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from headrace.common.status import Status
from headrace.scheduler.state.placing.assignments import is_current
from headrace.scheduler.state.placing.occupancy import expected_cost
from headrace.scheduler.state.placing.pinned_results import stays
from headrace.scheduler.state.placing.placement import TRANSFER_LATENCY
from headrace.scheduler.state.placing.restrictions import of_these

from .steal_requests import request

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState

#: What a worker with work waiting must be expected to need, in seconds a thread, to be stolen from when no worker is
#: saturated. Less is done before the request has made its way.
WORTHWHILE = 0.05
#: Tasks of one worker, and workers, that one look goes through.
SCAN_TASKS = 4096
SCAN_WORKERS = 32
#: Level of a task whose transfer takes as long as its run; one more for each doubling. None above `LAST_LEVEL` moves.
EVEN_LEVEL = 6
LAST_LEVEL = 14


def level(transfer: float, compute: float) -> int | None:
    """Level of a task by the cost of moving it: 0 without transfer; `None` if that is over 256 times what it takes."""
    if transfer <= 0:
        return 0
    if compute <= 0:
        return None
    found = max(1, math.ceil(math.log2(transfer / compute)) + EVEN_LEVEL)
    return found if found <= LAST_LEVEL else None


class _Victim:
    """A busy worker in one look: its load as the look goes on, and what could be taken from it, dearest first."""

    __slots__ = ("load", "stealable", "threads", "worker")

    def __init__(self, worker: WorkerState, seconds: float, stealable: list[tuple[int, TaskState, float]]) -> None:
        self.worker = worker
        self.threads = worker.nthreads
        self.load = seconds / worker.nthreads
        self.stealable = stealable


def balance(state: SchedulerCore, now: float) -> int:
    """Ask tasks back from busy workers for idle ones; returns how many."""
    if not state.idle or state.total_occupancy <= 0:
        return 0
    thieves = _thieves(state)
    if not thieves:
        return 0
    state.look_around("steal", now)
    victims = []
    for number, worker in enumerate(_busiest(state)):
        victim = _victim(state, worker)
        if victim is not None:
            victims.append((-victim.load, number, victim))
    if not victims:
        return 0
    return _Look(state, thieves, victims).run()


def _thieves(state: SchedulerCore) -> dict[WorkerState, float]:
    """Idle workers, with the seconds a thread that they have to do; those to which enough is on its way are not."""
    coming = state.steals.coming
    found = {}
    for worker in state.idle:
        count, seconds = coming.get(worker, (0, 0.0))
        if len(worker.processing) - len(worker.long_running) + count < worker.nthreads:
            seconds += sum([expected_cost(state, task, worker) for task in worker.processing])
            found[worker] = seconds / worker.nthreads
    return found


def _busiest(state: SchedulerCore) -> list[WorkerState]:
    """Workers that may have tasks to spare, the busiest first; paused ones among them."""
    if state.saturated:
        pool: Iterable[WorkerState] = state.saturated
    else:
        pool = [
            worker
            for worker in state.running
            if worker.occupancy > WORTHWHILE * worker.nthreads and len(worker.processing) > worker.nthreads
        ]
    found = heapq.nlargest(SCAN_WORKERS, pool, key=lambda worker: worker.occupancy / worker.nthreads)
    if len(state.running) < len(state.workers):
        found += [w for w in state.workers.values() if w.status is Status.paused and w.processing]
    return found


def _victim(state: SchedulerCore, worker: WorkerState) -> _Victim | None:
    in_flight = state.steals.in_flight
    long_running = worker.long_running
    executing = worker.executing
    stealable: list[tuple[int, TaskState, float]] = []
    fixed = seconds = 0.0
    for task in islice(reversed(worker.processing), SCAN_TASKS):
        if task in long_running:
            continue
        cost = expected_cost(state, task, worker)
        seconds += cost
        fixed += worker.processing[task]
        if task in executing or task.options.actor or (state.staying and stays(state, task)):
            continue
        open_one = in_flight.get(task.key)
        if open_one is not None and is_current(task, worker, open_one.attempt):
            seconds -= cost
            continue
        transfer = transfer_seconds(state, task, None)
        dear = level(transfer, cost)
        if dear is not None:
            stealable.append((dear, task, cost))
    if not stealable:
        return None
    if len(worker.processing) > SCAN_TASKS:  # the rest is taken to be like what was seen
        seconds += max(0.0, worker.occupancy - fixed) * (seconds / fixed if fixed > 0 else 1.0)
    if worker.status is Status.paused:
        seconds = math.inf  # nothing waiting there will start before it resumes
    stealable.reverse()
    stealable.sort(key=lambda entry: -entry[0])  # stable: within a level, those sent last stay last
    return _Victim(worker, seconds, stealable)


def transfer_seconds(state: SchedulerCore, task: TaskState, worker: WorkerState | None) -> float:
    """Expected seconds to bring what a task needs to a worker (to one that has none of it: `None`)."""
    missing = [d.get_nbytes() for d in task._dependencies if worker is None or worker not in d.who_has]
    return TRANSFER_LATENCY + sum(missing) / state.bandwidth if missing else 0.0


class _Look:
    """One distribution of tasks from victims to thieves."""

    def __init__(
        self, state: SchedulerCore, thieves: dict[WorkerState, float], victims: list[tuple[float, int, _Victim]]
    ) -> None:
        self.state = state
        self.loads = thieves
        self.pushed = len(thieves)
        self.thieves = [(load, number, worker) for number, (worker, load) in enumerate(thieves.items())]
        self.victims = victims
        heapq.heapify(self.thieves)
        heapq.heapify(self.victims)

    def run(self) -> int:
        """Take from the busiest until it is no use; returns how many tasks were asked for."""
        asked = 0
        while self.victims:
            _, number, victim = heapq.heappop(self.victims)
            if not victim.stealable:
                continue
            dear, task, cost = victim.stealable.pop()
            thief = self._thief(task)
            if thief is not None:
                transfer = transfer_seconds(self.state, task, thief)
                duration = expected_cost(self.state, task, thief)
                start = self.loads[thief] + transfer + TRANSFER_LATENCY
                if start + duration < victim.load:
                    request(self.state, task, thief, cost, duration)
                    self.state.steals.note_level(dear, cost)
                    asked += 1
                    victim.load -= cost / victim.threads
                    self._set_load(thief, self.loads[thief] + duration / thief.nthreads)
                elif not self._is_special(task):
                    victim.stealable = [entry for entry in victim.stealable if self._is_special(entry[1])]
            heapq.heappush(self.victims, (-victim.load, number, victim))
        return asked

    @staticmethod
    def _is_special(task: TaskState) -> bool:
        """Whether what holds for this task says nothing of others: it may run on some workers only."""
        return bool(task.options.workers or task.options.resources or task._dependencies)

    def _set_load(self, thief: WorkerState, load: float) -> None:
        self.loads[thief] = load
        self.pushed += 1
        heapq.heappush(self.thieves, (load, self.pushed, thief))

    def _thief(self, task: TaskState) -> WorkerState | None:
        """Worker where the task would start earliest, among the idle workers that may run it."""
        options = task.options
        if options.resources or (options.workers and not options.allow_other_workers):
            pool = of_these(self.state, task, self.loads)
        else:
            while self.thieves[0][0] != self.loads[self.thieves[0][2]]:
                heapq.heappop(self.thieves)  # there is an entry with its present load
            pool = [self.thieves[0][2]]
            for dependency in task._dependencies:
                pool += [holder for holder in dependency.who_has if holder in self.loads]
        if len(pool) > 1:
            return min(pool, key=lambda thief: self.loads[thief] + transfer_seconds(self.state, task, thief))
        return pool[0] if pool else None
