"""The scheduler's shell in the simulation: it passes messages to the pure state and sends what that wants sent.

It does what `headrace.scheduler.server` does, and besides checks with every task sent that restrictions hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headrace.common.status import Status
from headrace.messages.client import MessagesReceived
from headrace.messages.worker import (
    AddKeys,
    CloseWorker,
    ComputeTask,
    WorkerHeartbeat,
    WorkerStatus,
)
from headrace.scheduler.state.core import WORKER_MESSAGES, SchedulerCore
from headrace.scheduler.state.flow.membership import pardon, suspects
from headrace.scheduler.state.placing.restrictions import workers_named
from headrace.scheduler.state.records.clients import ClientState
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState
from headrace.scheduler.state.state_options import StateOptions

from .network import Connection

if TYPE_CHECKING:
    from .client import SimulatedClient
    from .worker import SimulatedWorker
    from .world import World

#: Seconds for which a client whose connection broke is waited for, and a worker that says nothing.
CLIENT_GRACE = 5.0
WORKER_TTL = 20.0
#: Seconds for which a scattering is under way at most; workers ask later than that.
OPEN_SCATTER = 50.0


class Registered:
    """First message to a worker: the scheduler knows it."""


class Welcome:
    """First message to a client: how many of its messages have come, if it was known."""

    def __init__(self, received: int | None) -> None:
        self.received = received


class SimulatedScheduler:
    """The state and the connections."""

    name = "scheduler"

    def __init__(self, world: World, options: StateOptions) -> None:
        self.world = world
        self.frozen_until = 0.0
        self.state = SchedulerCore(options)
        self.state.scatters.open_seconds = OPEN_SCATTER
        self.streams: dict[WorkerState | ClientState, Connection] = {}
        #: scattered data that a worker had which left, and tasks that were cancelled with force
        self.lost: set[str] = set()
        self.received: dict[str, int] = {}
        self._suspects: dict[str, list[TaskState]] = {}
        self._due: float | None = None

    @property
    def now(self) -> float:
        return self.world.timeline.now

    def flush(self) -> None:
        """Send."""
        state = self.state
        while state.dirty:
            dirty, state.dirty = state.dirty, []
            for receiver in dirty:
                outbox, receiver.outbox = receiver.outbox, []
                stream = self.streams.get(receiver)
                if stream is not None and outbox:
                    if isinstance(receiver, WorkerState):
                        self._check_restrictions(receiver, outbox)
                    self.world.trace("scheduler", "->", receiver, outbox)
                    stream.to_far.send(outbox)
        due = state.delays.next_due()
        if due is not None and due != self._due:
            self._due = due
            self.world.timeline.at(due, self._retries_due)

    def _retries_due(self) -> None:
        self._due = None
        self.state.on_retries_due(self.now)
        self.flush()

    def _check_restrictions(self, worker: WorkerState, messages: list[Any]) -> None:
        for message in messages:
            if type(message) is not ComputeTask:
                continue
            options = self.world.universe.calls[message.key].options
            for name, amount in options.resources.items():
                assert worker.resources.get(name, 0) >= amount, f"{message.key} needs {name}, sent to {worker}"
            if options.workers and not options.allow_other_workers:
                allowed = [found for name in options.workers for found in workers_named(self.state, name)]
                assert worker in allowed, f"{message.key} was sent to {worker}, not one of {options.workers}"

    # workers

    def register_worker(self, worker: SimulatedWorker, details: dict[str, Any]) -> bool:
        """A worker registers; `False` if it is refused."""
        state = self.state
        taken = state.aliases.get(worker.name)
        if taken is not None and taken != worker.address:
            return False
        old = state.workers.get(worker.address)
        record = WorkerState(
            worker.address,
            name=worker.name,
            nthreads=worker.nthreads,
            resources=dict(worker.resources),
            server_id=worker.id,
            saturation=state.options.saturation,
            bandwidth=state.options.bandwidth,
            status=Status[details["status"]],
            now=self.now,
        )
        network = self.world.network
        ended = lambda: self._worker_gone(record)  # noqa: E731
        connection = Connection(
            network,
            network.link(worker.address, "scheduler", self, lambda batch: self._worker_batch(record, batch), ended),
            network.link("scheduler", worker.address, worker, lambda batch: None, lambda: None),
        )
        worker.connecting(connection)
        self._note_unknown(key for key in details["keys"] if key not in details["scattered"])
        if old is not None:
            self._note_departure(old)
            self._close_stream(old)
        self.streams[record] = connection
        connection.to_far.send([Registered()])
        pardon(self._suspects.pop(worker.id, []))
        state.add_worker(record, details["keys"], self.now, scattered=details["scattered"])
        self.flush()
        return True

    def _note_unknown(self, keys: Iterable[str]) -> None:
        """A worker that comes back has these; data is freed, perhaps before the client tells us of it."""
        calls = self.world.universe.calls
        self.lost.update(key for key in keys if calls[key].kind == "data" and key not in self.state.tasks)

    def _close_stream(self, record: WorkerState | ClientState) -> None:
        stream = self.streams.pop(record, None)
        if stream is not None:
            stream.to_near.drop()
            stream.to_far.finish()

    def _note_departure(self, record: WorkerState) -> None:
        tasks = self.state.tasks
        for task in record.has_what:
            for call in self.world.universe.needs(task.key):
                # data that nobody else holds is gone, and with it what it takes to compute this again
                if call.kind == "data" and not (call.key in tasks and tasks[call.key].who_has - record.alone):
                    self.lost.add(call.key)
        for client in self.world.clients:
            self.lost |= client.scattering  # may be there, and announced once another worker has the address
        self._count_departure(record)

    def _count_departure(self, record: WorkerState) -> None:
        for task in record.processing:
            self.world.universe.calls[task.key].departures += 1

    def remove_worker(
        self,
        record: WorkerState,
        reason: str,
        *,
        close: bool = False,
        expected: bool = False,
        blamed: Iterable[str] = (),
    ) -> None:
        """Forget a worker; with `close`, tell it to shut down."""
        if self.state.workers.get(record.address) is not record:
            return
        self._note_departure(record)
        stream = self.streams.get(record)
        if close and stream is not None:
            stream.to_far.send([CloseWorker(reason)])
        self._close_stream(record)
        self.world.trace("scheduler", "removes", record, reason)
        expected = expected or record.status is Status.closing
        if not expected and not blamed:
            self._suspects[record.server_id] = suspects(record)
        self.state.remove_worker(record.address, reason, self.now, expected=expected, blamed=blamed)
        self.flush()

    def restart_stuck(self, worker: SimulatedWorker) -> None:
        """A worker asks to be ended, because of a task that does not."""
        record = self.state.workers.get(worker.address)
        if record is not None and record.server_id == worker.id:
            self.remove_worker(record, "a task does not end", expected=True)
            self.world.timeline.later(self.world.random.choice([0.0, 0.01, 1.0]), worker.die, "its nanny ends it")

    def _worker_gone(self, record: WorkerState) -> None:
        """A connection broke: the worker is dead, or may be back in a moment, which is waited for or not."""
        patience = self.world.random.choice([0.0, 0.0, 1.0]) if record.status is not Status.closing else 0.0
        if self.state.workers.get(record.address) is record and patience:
            self._close_stream(record)
            if record.status is Status.running:
                self.state.set_worker_status(record, "paused", self.now)
                self.flush()
            self.world.timeline.later(patience, self.remove_worker, record, "its connection broke")
        else:
            self.remove_worker(record, "its connection broke")

    def _worker_batch(self, worker: WorkerState, messages: list[Any]) -> None:
        if worker not in self.streams:
            return
        if any(type(message) is not WorkerHeartbeat for message in messages):
            self.world.trace(worker, "->", "scheduler", messages)
        end: WorkerStatus | None = None
        reports: list[Any] = []
        for message in messages:
            kind = type(message)
            if kind in WORKER_MESSAGES:
                if kind is AddKeys:
                    self._note_unknown(message.keys)
                reports.append(message)
                continue
            self.state.handle_batch(worker, reports, self.now)
            reports = []
            if kind is WorkerHeartbeat:
                self.state.on_heartbeat(worker, message, self.now, 30.0)
            elif message.status == "closing":
                end = message
            else:
                self.state.set_worker_status(worker, message.status, self.now)
        self.state.handle_batch(worker, reports, self.now)
        if end is not None and end.cause:
            self.remove_worker(worker, end.cause, blamed=end.blamed)
        elif end is not None:
            self._count_departure(worker)
            self.state.set_worker_status(worker, end.status, self.now)
        self.flush()

    def remove_silent(self) -> None:
        """Workers that have not been heard of for long are taken for dead."""
        for record in list(self.state.workers.values()):
            if record.last_seen < self.now - WORKER_TTL:
                self.remove_worker(record, "no heartbeat", close=self.world.random.random() < 0.5)

    # clients

    def register_client(self, client: SimulatedClient) -> Connection:
        """A client registers, perhaps again; it is told how many of its messages have come, if it is known."""
        record = self.state.clients.get(client.name)
        received = None
        if record is None:
            record = self.state.add_client(client.name, {}, self.now)
            self.received[client.name] = 0
        else:
            received = self.received[client.name]
            self._close_stream(record)
        network = self.world.network
        connection = self.streams[record] = Connection(
            network,
            network.link(
                client.name,
                "scheduler",
                self,
                lambda batch: self._client_batch(record, connection, batch),
                lambda: self._client_gone(record, connection),
            ),
            network.link("scheduler", client.name, client, lambda batch: None, lambda: None),
        )
        connection.to_far.send([Welcome(received)])
        return connection

    def _client_gone(self, record: ClientState, connection: Connection) -> None:
        if self.streams.get(record) is connection:
            self.world.trace("scheduler", "loses", record)
            self._close_stream(record)
            self.world.timeline.later(CLIENT_GRACE, self._forget_client, record)

    def _forget_client(self, record: ClientState) -> None:
        if record not in self.streams and self.state.clients.get(record.client_key) is record:
            self.world.trace("scheduler", "forgets", record)
            self.world.client(record.client_key).forgotten()
            self.state.remove_client(record.client_key, self.now)
            self.flush()

    def _client_batch(self, client: ClientState, connection: Connection, messages: list[Any]) -> None:
        state = self.state
        if self.streams.get(client) is not connection:
            return
        self.world.trace(client, "->", "scheduler", messages)
        for message in messages:
            self.received[client.client_key] += 1
            state.handle(client, message, self.now)
        if self.world.random.random() < 0.2:
            state.send(client, MessagesReceived(self.received[client.client_key]))
        self.flush()

    def retry(self, keys: list[str]) -> list[str]:
        """Run failed tasks again."""
        retried = self.state.retry(keys, self.now)
        self.flush()
        return retried

    def missing(self, key: str, address: str) -> None:
        """A worker did not have what it should have."""
        if self.world.universe.calls[key].kind == "data":
            self.lost.add(key)
        self.state.on_missing_data(key, address, self.now)
        self.flush()

    def add_data(self, client: str, who_has: dict[str, list[str]], nbytes: dict[str, int], number: int) -> None:
        """A client has put data on workers."""
        for key, addresses in who_has.items():
            if any(address not in self.state.workers for address in addresses):
                self.lost.add(key)
        types = dict.fromkeys(nbytes, "int")
        self.state.add_data_of(client, who_has, nbytes, types, self.now, scattering=number)
        self.flush()
