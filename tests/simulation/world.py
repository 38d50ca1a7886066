"""A whole cluster made from one seed: who is in it, what goes wrong and when, and how long it may take.

`World(seed).run()` raises on the first thing that does not hold (see `oracle`).
"""

from __future__ import annotations

import random
from typing import Any

from headrace.scheduler.state.state_options import StateOptions

from . import oracle
from .balancing import Balancing
from .client import SimulatedClient
from .graphs import Universe
from .network import Network, Unreachable
from .scheduler import SimulatedScheduler
from .short_ways import Snapshot, snapshot
from .timeline import Timeline
from .worker import SimulatedWorker

#: What a seed may draw, beside the kinds of calls (`graphs.KINDS`).
FAULTS = (
    *("fails", "flaky", "reschedules", "secedes", "kills", "leaves", "closes"),
    *("scatter", "restrictions", "resources", "share", "release", "cancel", "retry", "forget"),
    *("death", "leave", "disconnect", "client-break", "freeze", "pause", "slow", "drop", "transfers"),
    *("steal", "copies", "retire"),
    *("overruns", "delays", "interrupt"),
)
#: Virtual seconds after the last fault in which all must be done.
PATIENCE = 300.0


class Stuck(AssertionError):
    """Something wanted is neither in memory nor erred after a long time."""


class World:
    """Scheduler, workers and clients, with faults."""

    def __init__(self, seed: int, *, validate: bool = True, trace: bool = False, short_ways: bool = True) -> None:
        self.seed = seed
        self.validate = validate
        self.short_ways = short_ways
        #: the scheduler's records after the faults, when all is done, and at the end
        self.snapshots: list[Snapshot] = []
        self.random = draw = random.Random(seed)
        self.timeline = Timeline(draw)
        self.network = Network(self.timeline, draw)
        self._traced = trace
        share = draw.choice([0.15, 0.3, 0.5, 0.8])
        self.faults = {fault for fault in FAULTS if draw.random() < share}
        self.duration = draw.choice([1.0, 3.0, 10.0])
        self.may_be_cancelled: set[str] = set()
        self.addresses = [f"tcp://10.0.0.{number % 2 + 1}:{1000 + number}" for number in range(draw.randint(1, 4))]
        names = [f"alias-{number}" for number in range(len(self.addresses))]
        size = draw.choice([2, 5, 8, 12, 20])
        self.universe = Universe(draw, size, self.faults, self.addresses, [*names, "10.0.0.1"])
        options = StateOptions(
            validate=validate,
            short_ways=short_ways,
            allowed_failures=draw.choice([0, 1, 3]),
            saturation=draw.choice([1.0, 1.1, 2.0, float("inf")]),
            default_durations=dict.fromkeys(("inc", "add", "sum"), 0.001) if draw.random() < 0.3 else {},
        )
        self.scheduler = SimulatedScheduler(self, options)
        self.workers: list[SimulatedWorker] = []
        self._processes = 0
        equal = {"restrictions", "resources"} <= self.faults
        for slot, address in enumerate(self.addresses):
            resources = {"GPU": 2.0} if slot == 0 or equal or draw.random() < 0.3 else {}
            self._start_worker(address, names[slot], draw.randint(1, 2), resources, draw.choice([0.0, 0.0, 0.5]))
        self.clients = [SimulatedClient(self, f"client-{number}") for number in range(draw.choice([1, 1, 2, 3]))]
        for client in self.clients:
            client.start()
        if "transfers" in self.faults:
            self.network.failure_rate = draw.choice([0.05, 0.3])
        self._plan()

    def _start_worker(self, address: str, name: str, nthreads: int, resources: dict[str, float], after: float) -> None:
        self._processes += 1
        worker = SimulatedWorker(self, self._processes, address, name, nthreads, resources)
        self.workers.append(worker)
        self.timeline.later(after, worker.start)

    def _plan(self) -> None:
        draw, timeline = self.random, self.timeline
        for client in self.clients:
            for _ in range(draw.choice([2, 5, 10])):
                timeline.at(draw.uniform(0.1, self.duration), client.act)
        balancing = Balancing(self.scheduler)
        happenings = {
            "death": self._kill,
            "leave": self._leave,
            "disconnect": self._disconnect,
            "client-break": self._break_client,
            "freeze": self._freeze,
            "pause": self._pause,
            "slow": self._slow,
            "drop": self._drop,
            "steal": balancing.steal,
            "copies": balancing.copy,
            "retire": balancing.retire,
        }
        for fault, function in happenings.items():
            if fault in self.faults:
                often = 10 if fault in ("steal", "copies") else 3
                for _ in range(draw.randint(1, often)):
                    timeline.at(draw.uniform(0.1, self.duration), function)
        timeline.at(self.duration, self._calm)
        timeline.later(1.0, self._look_for_silent)

    def _look_for_silent(self) -> None:
        self.scheduler.remove_silent()
        self.timeline.later(1.0, self._look_for_silent)

    # what goes wrong

    def _living(self) -> list[SimulatedWorker]:
        return [worker for worker in self.workers if worker.alive]

    def _kill(self) -> None:
        if workers := self._living():
            self.random.choice(workers).die("killed")

    def _leave(self) -> None:
        if workers := self._living():
            self.random.choice(workers).close("it leaves")

    def _disconnect(self) -> None:
        workers = [worker for worker in self._living() if worker.connection is not None and worker.registered]
        if workers:
            connection = self.random.choice(workers).connection
            assert connection is not None
            draw = self.random.choice
            connection.break_(draw([0.0, 0.01, 0.5, 5.0]), draw([0.0, 0.01, 0.5, 5.0]))

    def _break_client(self) -> None:
        self.random.choice(self.clients).break_connection()

    def _freeze(self) -> None:
        if workers := self._living():
            self.random.choice(workers).frozen_until = self.timeline.now + self.random.choice([0.1, 1.0, 5.0, 40.0])

    def _pause(self) -> None:
        if workers := self._living():
            worker = self.random.choice(workers)
            worker.set_status("paused")
            self.timeline.later(self.random.uniform(0, 2), worker.set_status, "running")

    def _slow(self) -> None:
        if workers := self._living():
            self.random.choice(workers).slowness = self.random.choice([0.1, 10.0, 30.0])

    def _drop(self) -> None:
        if workers := [worker for worker in self._living() if worker.data]:
            self.random.choice(workers).lose_data()

    def _calm(self) -> None:
        """From here on nothing goes wrong any more, but for tasks that end their workers."""
        self.faults -= {"death", "leave", "disconnect", "client-break", "freeze", "pause", "slow", "drop", "transfers"}
        self.network.failure_rate = 0.0
        for worker in self._living():
            worker.slowness = 1.0

    def worker_died(self, worker: SimulatedWorker) -> None:
        """Something starts another in its place."""
        # perhaps at the same address, where peers miss what this one held before the scheduler has seen it go
        self.scheduler.lost.update(worker.data.keys() & set(self.universe.data))
        address = worker.address
        if "restrictions" not in self.faults and self.random.random() < 0.5:
            address = f"tcp://10.0.0.1:{2000 + self._processes}"
        after = self.random.choice([0.0, 0.01, 1.0])
        self._start_worker(address, worker.name, worker.nthreads, worker.resources, after)

    def reachable(self, address: str) -> SimulatedWorker:
        """Who answers there.

        Raises:
            Unreachable: nobody.
            Frozen: somebody who is stopped.
        """
        worker = self.living(address)
        if worker is None:
            raise Unreachable
        worker.check_reachable()
        return worker

    def living(self, address: str) -> SimulatedWorker | None:
        """The process at an address."""
        return next((worker for worker in self.workers if worker.address == address and worker.alive), None)

    def client(self, name: str) -> SimulatedClient:
        """The client of this name."""
        return next(client for client in self.clients if client.name == name)

    # the run

    def run(self) -> None:
        """Let everything happen, and check what must hold."""
        self._run_until(lambda: self.timeline.now >= self.duration, "the faults to be over")
        self._take_snapshot()
        self._run_until(lambda: oracle.all_done(self), "what is wanted to be done")
        self._run_for(8.0)  # late messages, and clients that did not come back
        for client in self.clients:
            client.gathered.clear()
        self._run_until(lambda: oracle.all_gathered(self), "what is wanted to be had")
        oracle.check_results(self)
        self._take_snapshot()
        for client in self.clients:
            client.release_keys(list(client.held))
        self._run_for(0.5)
        self._run_until(lambda: not oracle.left_over(self), "what was released to be gone")
        self._take_snapshot()

    def _take_snapshot(self) -> None:
        self.snapshots.append(snapshot(self.scheduler.state, self.timeline.now))

    def _run_for(self, seconds: float) -> None:
        end = self.timeline.now + seconds
        while self.timeline.now < end:
            self.timeline.step()

    def _run_until(self, condition: Any, what: str) -> None:
        end = max(self.timeline.now, self.duration) + PATIENCE
        while not condition():
            self._run_for(0.05 if self.timeline.now < self.duration + 5 else 1.0)
            if self.timeline.now > end:
                raise Stuck(f"after {PATIENCE:g} s still waiting for {what}: {oracle.describe(self)}")

    def trace(self, *what: Any) -> None:
        """Print what happens, if somebody looks."""
        if self._traced:
            print(f"{self.timeline.now:10.4f}", *what)
