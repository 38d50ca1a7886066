"""A worker's shell in the simulation: its executor, its data and its transfers, on virtual time.

It does what `headrace.worker.server`, `executor` and `transfer` do, with the same events.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any

from headrace.messages.worker import AddKeys, FreeKeys, ReleasedData, WorkerHeartbeat, WorkerStatus
from headrace.worker.state import GatherData, TaskRun, WorkerCore
from headrace.worker.state.events import (
    BusyOver,
    DataDropped,
    DataStored,
    ExecuteDone,
    ExecuteFailed,
    ExecuteRecalled,
    ExecuteRescheduled,
    ExecuteSeceded,
    FindMissing,
    GatherBusy,
    GatherDone,
    GatherFailed,
    Pause,
    SchedulerLost,
    Unpause,
)

from .graphs import Call, arguments_of, payload, result_of
from .network import Connection, Frozen, Unreachable
from .scheduler import Registered

if TYPE_CHECKING:
    from .world import World

HEARTBEAT = 1.0
BUSY_PAUSE = 0.15
FIND_MISSING = 1.0
#: Seconds that a client has to tell the scheduler what it has put here.
ANNOUNCE = 60.0
OUTGOING_LIMIT = 2


class SimulatedWorker:
    """One process."""

    def __init__(self, world: World, number: int, address: str, name: str, nthreads: int, resources: dict[str, float]):
        self.world = world
        self.id = f"worker-{number}"
        self.address = address
        self.name = name
        self.nthreads = nthreads
        self.resources = resources
        self.frozen_until = 0.0
        self.alive = True
        self.status = "running"
        self.slowness = 1.0
        #: for what does not decide how a seed goes
        self._random = Random(number)
        random = world.random
        self.state = WorkerCore(
            address=address,
            nthreads=nthreads,
            resources=resources,
            validate=world.validate,
            outgoing_limit=random.choice([1, 2, 50]),
            message_bytes_limit=random.choice([1000, 50_000_000]),
            incoming_bytes_limit=random.choice([1000, float("inf"), float("inf")]),
            seed=number,
        )
        self.data: dict[Any, int] = {}
        self.connection: Connection | None = None
        self.registered = False
        self.outgoing = 0
        self._told: dict[str, int] = {}
        self._told_status = ""
        #: of what runs, what cannot be run to its end
        self._without_data: set[str] = set()
        #: data of which the scheduler may not know yet, and since when
        self._scattered: dict[str, float] = {}
        self._queue: deque[TaskRun] = deque()
        self._started: dict[str, TaskRun] = {}
        self._seceded: set[str] = set()
        self._values: dict[str, dict[str, int]] = {}
        self._outcomes: list[tuple[int | None, Any]] = []

    def __repr__(self) -> str:
        return f"<{self.id} at {self.address}>"

    @property
    def now(self) -> float:
        return self.world.timeline.now

    # life

    def start(self) -> None:
        """Register, and beat from then on."""
        self._register()
        self._beat()
        self._look_for_missing()

    def _register(self) -> None:
        if not self.alive or self.connection is not None:
            return
        if self._postponed(self._register):
            return
        keys = {key: task.nbytes for key, task in self.state.tasks.items() if task.state == "memory"}
        scattered = [key for key in self._scattered if key in keys]
        details = {"keys": keys, "status": self.status, "scattered": scattered}
        self._told, self._told_status = keys, self.status

        def arrive() -> None:
            if self.alive and not self.world.scheduler.register_worker(self, details):
                self.world.timeline.later(1.0, self._register)

        self.world.timeline.later(self.world.network.delay(0.001), arrive)

    def connecting(self, connection: Connection) -> None:
        """The scheduler has accepted; its first message says so."""
        self.connection = connection
        connection.to_far.on_batch = self._take_messages
        connection.to_far.on_close = lambda: self._scheduler_gone(connection)

    def _correct(self) -> None:
        """Results that came or went while the registration was under way."""
        assert self.connection is not None
        held = {key for key, task in self.state.tasks.items() if task.state == "memory"}
        messages: list[Any] = [ReleasedData(key) for key in self._told if key not in held]
        if news := [key for key in held if key not in self._told and key not in self._scattered]:
            messages.append(AddKeys(news))
        if self.status != self._told_status:
            messages.append(WorkerStatus(self.status))
        if messages:
            self.connection.to_near.send(messages)
        if failed := [key for key, task in self.state.tasks.items() if task.state == "error"]:
            self.take(FreeKeys(failed))

    def _scheduler_gone(self, connection: Connection) -> None:
        if self.alive and self.connection is connection:
            self.world.trace(self, "loses the scheduler")
            connection.to_near.drop() if connection.broken else connection.to_near.finish()
            self.connection = None
            self.registered = False
            self.take(SchedulerLost())
            self.world.timeline.later(self.world.random.choice([0.0, 0.01, 1.0]), self._register)

    def die(self, reason: str) -> None:
        """The process ends at once; what was not sent is lost."""
        if not self.alive:
            return
        self.alive = False
        self.world.trace(self, "dies", reason)
        for key in self._started:
            self.world.universe.calls[key].deaths += 1
        if self.connection is not None:
            self.connection.to_far.drop()
            self.connection.break_(self.world.random.choice([0.0, 0.01, 0.5, 3.0]), 0.0)
        self.world.worker_died(self)

    def close(self, reason: str, blamed: str | None = None) -> None:
        """Leave in order; or, if the task that is to blame is known, say which."""
        if not self.alive:
            return
        self.alive = False
        self.world.trace(self, "closes", reason)
        if self.connection is not None:
            words = WorkerStatus("closing") if blamed is None else WorkerStatus("closing", reason, [blamed])
            self.connection.to_near.send([words])
            self.connection.to_near.finish()
            self.connection.to_far.drop()
        self.world.worker_died(self)

    def lose_data(self) -> None:
        """A value cannot be read back from the disk."""
        key = self.world.random.choice(sorted(self.data))
        task = self.state.tasks.get(key)
        if task is not None and task.state == "memory":
            del self.data[key]
            if self.world.random.random() < 0.5:  # what runs with it cannot read it either
                self._without_data |= {run.key for run in self._started.values() if key in (run.dependencies or ())}
            self.world.scheduler.lost.add(key)  # if nothing computes it again
            self.take(DataDropped([key]))

    def set_status(self, status: str) -> None:
        """Pause or go on."""
        if self.alive and self.status != status:
            self.status = status
            self.take(Pause() if status == "paused" else Unpause())
            if self.connection is not None and self.registered:
                self.connection.to_near.send([WorkerStatus(status)])

    def _postponed(self, function: Any, *args: Any) -> bool:
        """Whether this process is stopped: then the function is called when it goes on."""
        if self.frozen_until > self.now:
            self.world.timeline.at(self.frozen_until, function, *args)
            return True
        return False

    def _beat(self) -> None:
        if not self.alive or self._postponed(self._beat):
            return
        if self.connection is not None and self.registered:
            executing = {key: self.now - run.started for key, run in self._started.items()}
            self.connection.to_near.send([WorkerHeartbeat(self.now, {"bandwidth": self._speeds()}, executing)])
        self.world.timeline.later(HEARTBEAT, self._beat)

    def _speeds(self) -> dict[str, Any]:
        """Speeds of transfers as a heartbeat tells them, also of peers that have gone meanwhile."""
        random = self._random
        peers = random.sample(self.world.workers, random.randint(0, len(self.world.workers)))
        workers = {peer.address: (random.choice([1e3, 1e9]), random.randint(1, 3)) for peer in peers}
        total = random.choice([1e6, 1e8, 1e10])
        return {"total": total, "workers": workers, "types": {"int": (1e6, 1)}, "measured": len(workers)}

    def _look_for_missing(self) -> None:
        if not self.alive or self._postponed(self._look_for_missing):
            return
        if self.state.missing_dep_flight:
            self.take(FindMissing())
        self.world.timeline.later(FIND_MISSING, self._look_for_missing)

    # events in, effects out

    def take(self, event: Any) -> None:
        """One event."""
        self._handle([event])

    def _take_messages(self, messages: list[Any]) -> None:
        if not self.alive:
            return
        if type(messages[0]) is Registered:
            self.registered = True
            messages = messages[1:]
            self._correct()
        self._handle(messages)
        if self.state.close_requested is not None:
            self.close(self.state.close_requested)

    def _handle(self, events: list[Any]) -> None:
        self.world.trace(self, "takes", events)
        self.state.handle_batch(events)
        self._act()

    def _act(self) -> None:
        state = self.state
        while state.outbox:
            outbox = state.drain()
            for run in outbox.execute:
                self._submit(run)
            answers = [self._recall(task.key) for task in outbox.recall]
            for key, force in outbox.interrupt:
                self._interrupt(key, force)
            for key in outbox.free:
                self.data.pop(key, None)
            for request in outbox.gather:
                self._gather(request)
            for address in outbox.retry_later:
                self.world.timeline.later(BUSY_PAUSE, self._busy_over, address)
            if outbox.messages and self.connection is not None and self.registered:
                self.connection.to_near.send(outbox.messages)
            if answers:
                state.handle_batch(answers)
        self._start_runs()

    def _busy_over(self, address: str) -> None:
        if self.alive and not self._postponed(self._busy_over, address):
            self.take(BusyOver(address))

    # the executor

    def _submit(self, run: TaskRun) -> None:
        assert run.key not in self._started, f"{run.key} runs already on {self}"
        self._values[run.key] = {key: self.data[key] for key in run.dependencies or ()}
        self._queue.append(run)

    def _recall(self, key: str) -> ExecuteRecalled:
        for run in self._queue:
            if run.key == key:
                self._queue.remove(run)
                return ExecuteRecalled(key, True)
        return ExecuteRecalled(key, False)

    def _start_runs(self) -> None:
        while self.alive and self._queue and len(self._started) - len(self._seceded) < self.nthreads:
            run = self._queue.popleft()
            self._started[run.key] = run
            run.started = self.now
            call = self.world.universe.calls[run.key]
            assert run.arguments == arguments_of(call)
            self._check_resources()
            seconds = call.seconds * self.slowness * self.world.random.uniform(0.5, 1.5)
            if call.kind == "secedes":
                self.world.timeline.later(seconds / 2, self._secede, run)
            if call.kind == "overruns" and call.runs < call.times:
                seconds = call.limit + self.world.random.choice([0.0, 0.001, 1.0])
            self.world.timeline.later(seconds, self._end, run)

    def _check_resources(self) -> None:
        used: dict[str, float] = {}
        for key in self._started:
            for name, amount in self.world.universe.calls[key].options.resources.items():
                used[name] = used.get(name, 0.0) + amount
        for name, amount in used.items():
            assert amount <= self.resources.get(name, 0.0), f"{self}: {amount} of {name} is used by {[*self._started]}"

    def _secede(self, run: TaskRun) -> None:
        if self.alive and self._started.get(run.key) is run:
            self._seceded.add(run.key)
            self._report(None, ExecuteSeceded(run.key, self.now - run.started))
            self._start_runs()

    def _interrupt(self, key: str, force: bool) -> None:
        """A run that nobody wants ends soon, or only its slot is free after a while, or it takes the worker with it."""
        run = self._started.get(key)
        if run is not None:
            stuck = force and self.world.random.random() < 0.3
            self.world.timeline.later(self.world.random.choice([0.0, 0.01, 0.3]), self._interrupted, run, stuck)

    def _interrupted(self, run: TaskRun, stuck: bool) -> None:
        if not self.alive or self._postponed(self._interrupted, run, stuck) or self._started.get(run.key) is not run:
            return
        self._values.pop(run.key)
        del self._started[run.key]
        self._seceded.discard(run.key)
        text = f"interrupted {run.key}"
        self._report(None, ExecuteFailed(run.key, b"exception", b"traceback", text, "line 1", run.started, self.now))
        self._start_runs()
        if stuck:
            ask = lambda: self.world.scheduler.restart_stuck(self)  # noqa: E731
            self.world.network.request(self.address, "scheduler", ask, lambda _: None, lambda: None)

    def _end(self, run: TaskRun) -> None:
        if not self.alive or self._postponed(self._end, run) or self._started.get(run.key) is not run:
            return
        key = run.key
        call = self.world.universe.calls[key]
        if call.kind == "kills" and call.misbehaves():
            self.die(f"{key} killed it")
            return
        if call.kind in ("leaves", "closes") and call.misbehaves():
            self.close(f"{key} closed it", key if call.kind == "closes" else None)
            return
        del self._started[key]
        self._seceded.discard(key)
        self._report(*self._outcome(call, run, self._values.pop(key)))
        self._start_runs()

    def _outcome(self, call: Call, run: TaskRun, values: dict[str, int]) -> tuple[int | None, Any]:
        start, stop = run.started, self.now
        if call.kind in ("fails", "flaky", "overruns") and call.misbehaves():
            failed = ExecuteFailed(call.key, b"exception", b"traceback", f"boom {call.key}", "line 1", start, stop)
            failed.retry = not call.final
            return None, failed
        if call.key in self._without_data:
            self._without_data.discard(call.key)
            return None, ExecuteRescheduled(call.key)
        if call.kind == "reschedules" and call.misbehaves():
            return None, ExecuteRescheduled(call.key)
        value = result_of(call, values)
        assert value == call.value, f"{call.key} was computed from wrong values"
        result = payload(value) if run.report and call.ridden else None
        return value, ExecuteDone(call.key, call.nbytes, "int", start, stop, result)

    def _report(self, value: int | None, event: Any) -> None:
        if not self._outcomes:
            self.world.timeline.later(self.world.random.choice([0.0, 0.0001, 0.003]), self._take_outcomes)
        self._outcomes.append((value, event))

    def _take_outcomes(self) -> None:
        if not self.alive or self._postponed(self._take_outcomes):
            return
        outcomes, self._outcomes = self._outcomes, []
        for value, event in outcomes:
            if value is not None:
                self.data[event.key] = value
        self._handle([event for _, event in outcomes])

    # transfers

    def _gather(self, request: GatherData) -> None:
        world = self.world
        assert request.worker != self.address, f"{self} asks itself"
        busy = object()

        def ask() -> Any:
            peer = world.reachable(request.worker)
            if peer.outgoing >= OUTGOING_LIMIT:
                return busy
            peer.outgoing += 1
            world.timeline.later(0.01, peer.sent)
            return {key: peer.data[key] for key in request.keys if key in peer.data}

        def answer(reply: Any) -> None:
            if not self.alive or self._postponed(answer, reply):
                return
            if reply is busy:
                self.take(GatherBusy(request.worker))
                return
            self.data.update(reply)
            calls = world.universe.calls
            self.take(GatherDone(request.worker, {key: calls[key].nbytes for key in reply}))

        def fail() -> None:
            if self.alive and not self._postponed(fail):
                self.take(GatherFailed(request.worker))

        world.network.request(self.address, request.worker, ask, answer, fail)

    def sent(self) -> None:
        """An answer is out."""
        self.outgoing -= 1

    def check_reachable(self) -> None:
        """Raise what a peer sees if it asks now."""
        if not self.alive:
            raise Unreachable
        if self.frozen_until > self.now:
            raise Frozen(self.frozen_until)

    def update_data(self, values: dict[str, int], number: int) -> None:
        """A client puts data here."""
        self.data.update(values)
        calls = self.world.universe.calls
        self.take(DataStored({key: calls[key].nbytes for key in values}, number))
        self._scattered.update(dict.fromkeys(values, self.now))
        self.world.timeline.later(ANNOUNCE, self._ask_after_scattered)

    def _ask_after_scattered(self) -> None:
        if not self.alive or self._postponed(self._ask_after_scattered):
            return
        due = [key for key, since in self._scattered.items() if since + 0.99 * ANNOUNCE <= self.now]
        for key in due:
            del self._scattered[key]
        held = [key for key in due if key in self.state.tasks and self.state.tasks[key].state == "memory"]
        if held and self.connection is not None and self.registered:
            self.connection.to_near.send([AddKeys(held)])
