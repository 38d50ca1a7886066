"""What evens out load and data while all else happens: stealing, copies made and dropped, workers that are retired.

It does what `headrace.extensions` and `handlers.scaling` of the scheduler do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.status import Status
from headrace.scheduler.state.balance import steal_requests
from headrace.scheduler.state.balance.stealing import balance
from headrace.scheduler.state.data import replicas
from headrace.scheduler.state.data.memory_manager import MemoryManager, ReduceReplicas, RetireWorker
from headrace.scheduler.state.placing.occupancy import reevaluate_some
from headrace.scheduler.state.records.workers import WorkerState

if TYPE_CHECKING:
    from .scheduler import SimulatedScheduler

#: Seconds after which a worker that cannot give its data away stays.
GIVE_UP = 5.0


class Balancing:
    """Policies and accidents, each a method that does one thing at random."""

    def __init__(self, scheduler: SimulatedScheduler) -> None:
        self._scheduler = scheduler
        self._state = scheduler.state
        self._random = scheduler.world.random
        self._manager = MemoryManager(self._state)

    def steal(self) -> None:
        """Even out the load, or ask some task back for no reason."""
        state, random = self._state, self._random
        state.now = self._scheduler.now
        if random.random() < 0.5:
            reevaluate_some(state, 0, 10)
            balance(state, self._scheduler.now)
        else:
            tasks = [task for task in state.tasks.values() if task.processing_on is not None]
            if tasks:
                steal_requests.request(state, random.choice(tasks), random.choice([None, *state.running]))
        self._scheduler.flush()

    def copy(self) -> None:
        """Have some worker fetch a copy of some result, drop one, or drop all that are too many."""
        state, random = self._state, self._random
        tasks = [task for task in state.tasks.values() if task.who_has]
        workers = list(state.running)
        if tasks and workers:
            task, worker = random.choice(tasks), random.choice(workers)
            what = random.choice(["acquire", "acquire", "remove", "reduce"])
            if what == "acquire":
                replicas.acquire(state, worker, [task])
            elif what == "remove":
                replicas.remove(state, worker, [task])
            else:
                policy = ReduceReplicas()
                self._manager.add_policy(policy)
                self._manager.run_policies([policy])
                self._manager.policies.discard(policy)
        self._scheduler.flush()

    def retire(self) -> None:
        """Send a worker away once others have its data."""
        state = self._state
        if len(state.running) < 2:
            return
        worker = self._random.choice(list(state.running))
        self._scheduler.world.trace("scheduler", "retires", worker)
        state.set_worker_status(worker, Status.closing_gracefully.name, self._scheduler.now)
        policy = RetireWorker(worker.address)
        self._manager.add_policy(policy)
        self._look(worker, policy, self._scheduler.now + GIVE_UP)

    def _look(self, worker: WorkerState, policy: RetireWorker, end: float) -> None:
        scheduler, state = self._scheduler, self._state
        if state.workers.get(worker.address) is not worker or worker.status is not Status.closing_gracefully:
            self._manager.policies.discard(policy)
        elif policy.done():
            self._manager.policies.discard(policy)
            left = {task.key for task in worker.has_what if len(task.who_has) < 2}
            assert not left, f"{worker} retires with the only copies of {left}"
            scheduler.remove_worker(worker, "retired", close=True, expected=True)
        elif policy.no_recipients or scheduler.now > end:
            self._manager.policies.discard(policy)
            state.set_worker_status(worker, Status.running.name, scheduler.now)
        else:
            self._manager.run_policies([policy])
            scheduler.world.timeline.later(0.1, self._look, worker, policy, end)
        scheduler.flush()
