"""The connections to workers: their registration, the stream of their messages, and heartbeats.

Each message belongs to the shell or to the core; a batch is gone over once, in the order in which it was sent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from headrace.comm import Comm
from headrace.common.status import Status
from headrace.containment import log_raised
from headrace.exceptions import BadRequestError, CommClosedError, UnknownMessage
from headrace.messages import FromWorker
from headrace.messages.base import HandlerMessage
from headrace.messages.worker import WorkerEvent, WorkerHeartbeat, WorkerStatus
from headrace.rpc import Stream
from headrace.rpc.server import Operation
from headrace.rpc.stream import DelayedStream
from headrace.scheduler.shell import Shell, logger
from headrace.scheduler.state.records.workers import WorkerState
from headrace.scheduler.worker_directory import WorkerDirectory

from .heart_rates import HeartRates
from .lifetime_departures import LifetimeDepartures
from .registration import (
    MOST_THREADS,
    checked_address,
    checked_count,
    checked_details,
    checked_name,
    checked_sizes,
    checked_status,
)
from .verdicts import Verdicts
from .worker_removal import WorkerRemoval


class WorkerConnections:
    """Streams to workers.

    Args:
        directory: finds workers by name.
        removal: takes workers off the record.
        verdicts: decides on workers whose connection broke.
        departures: is told of the workers' lifetimes.
        heart_rates: knows how often workers are to say that they live.
    """

    def __init__(
        self,
        shell: Shell,
        directory: WorkerDirectory,
        removal: WorkerRemoval,
        verdicts: Verdicts,
        departures: LifetimeDepartures,
        heart_rates: HeartRates,
    ) -> None:
        self.shell = shell
        self.core = shell.core
        self.directory = directory
        self.removal = removal
        self.verdicts = verdicts
        self.departures = departures
        self.heart_rates = heart_rates

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "register-worker": Operation(self.add_worker, takes_over=True),
            "heartbeat_worker": Operation(self.heartbeat_worker),
        }

    # Registration

    async def add_worker(
        self,
        /,
        comm: Comm,
        *,
        address: str,
        status: str = "running",
        server_id: str = "",
        nthreads: int = 1,
        name: object = None,
        resolve_address: bool = True,
        now: float | None = None,
        resources: dict[str, float] | None = None,
        host_info: object = None,
        memory_limit: int | None = None,
        metrics: dict[str, Any] | None = None,
        pid: int = 0,
        services: dict[str, int] | None = None,
        local_directory: str = "",
        versions: dict[str, Any] | None = None,
        nanny: str | None = None,
        extra: dict[str, Any] | None = None,
        stimulus_id: str = "",
        keys: dict[Any, int] | None = None,
        scheduler_id: str | None = None,
        scattered: Iterable[Any] = (),
        **details: Any,
    ) -> None:
        """Welcome a worker; its comm becomes a stream.

        Args:
            keys: the results that it holds, with their sizes.
            scheduler_id: of the scheduler that these are from, if it is not new.
            scattered: of the keys, those of which a client is perhaps about to tell.
            now, metrics, host_info, resolve_address, stimulus_id: accepted for compatibility; heartbeats tell.
            details: what else is on its record; see `WorkerState`, as for the other arguments.
        """
        details.update(
            server_id=server_id,
            resources=resources,
            memory_limit=memory_limit,
            pid=pid,
            services=services,
            local_directory=local_directory,
            versions=versions,
            nanny=nanny,
            extra=extra,
        )
        try:
            address = checked_address(address, "a worker's address")
            name = checked_name(name, "a worker's name")
            nthreads = checked_count(nthreads, "a worker's number of threads", MOST_THREADS)
            status, held = checked_status(status), checked_sizes(keys)
            details, scattered = checked_details(details), frozenset(scattered)
            if taken := self._name_taken(name, address, details["nanny"]):
                raise BadRequestError(taken)
        except (BadRequestError, TypeError) as refusal:  # the latter for `scattered`
            await self.shell.refuse(comm, "worker", refusal)
            return
        waits = address not in self.core.workers and self.shell.awaits_hook("add_worker")
        if not waits:
            await comm.write(self._welcome())
        if scheduler_id not in (None, self.shell.id):
            held = {}
        before = self.core.workers.get(address)
        if before is not None:
            self._end_connection(before)
        worker = self._new_worker(address, name, nthreads, status, details)
        self.departures.note_lifetime(address, details.get("lifetime"))
        if before is not None and (before.server_id != worker.server_id or not worker.server_id):
            self.removal.drop_worker(address, close=False, reason="another worker has registered at its address")
            before = None
        self.verdicts.pardon(worker)
        stream = self._start_stream(worker, comm, kind=DelayedStream if waits else Stream)
        self.core.add_worker(worker, held, self.shell.now(), scattered=scattered)
        self.heart_rates.follow()
        self.shell.flush()
        logger.info("Register worker addr: %s name: %s", address, worker.name)
        if before is not None:
            return  # to everyone else it has not been away
        self.shell.log_event(address, {"action": "add-worker"})
        self.shell.log_event("all", {"action": "add-worker", "worker": address})
        self.shell.note_worker_status(address, "init", worker.status.name)
        hooks = self.shell.notify_plugins("add_worker", scheduler=self.shell.facade, worker=address)
        if isinstance(stream, DelayedStream):
            await self._welcome_after(hooks, worker, stream)

    def _welcome(self) -> dict[str, Any]:
        return {
            "status": "OK",
            "id": self.shell.id,
            "heartbeat_interval": self.heart_rates.interval,
            "worker_plugins": self.shell.worker_plugins,
        }

    async def _welcome_after(self, hooks: list[asyncio.Task[None]], worker: WorkerState, stream: DelayedStream) -> None:
        """Let a worker begin when plugins' coroutines have ended; until then, what it is sent waits."""
        if hooks:
            await asyncio.wait(hooks)
        try:
            if self.shell.worker_streams.get(worker.address) is not stream:
                raise CommClosedError(f"worker {worker.address} was removed while plugins were told of it")
            await stream.comm.write(self._welcome())
        except OSError as error:
            if self.shell.worker_streams.get(worker.address) is stream:
                self.removal.drop_worker(worker.address, close=False, reason=f"its registration failed: {error}")
            stream.abort()
            raise
        stream.begin()

    async def handle_worker(self, comm: Comm, worker: str) -> None:
        """Take a worker's messages from a connection, as `add_worker` has it done, and wait until it closes.

        A connection that the worker had before is given up.

        Args:
            worker: address of a worker on record.

        Raises:
            KeyError: there is none.
        """
        record = self.core.workers.get(self.directory.coerce_address(worker, resolve=False))
        if record is None:
            raise KeyError(f"there is no worker {worker!r} whose messages could be taken")
        self._end_connection(record)
        ended = asyncio.Event()
        self._start_stream(record, comm, ended.set)
        await ended.wait()

    def _start_stream(
        self,
        worker: WorkerState,
        comm: Comm,
        ended: Callable[[], None] | None = None,
        kind: type[Stream] = Stream,
    ) -> Stream:
        address = worker.address

        def on_batch(messages: list[Any]) -> None:
            self._take_batch(worker, messages)

        def on_close(error: Exception | None) -> None:
            if self.shell.worker_streams.get(address) is stream and self.shell.status is Status.running:
                self.verdicts.worker_lost(
                    worker, f"its connection broke: {error}" if error else "its connection closed"
                )
            if ended is not None:
                ended()

        stream = kind(comm, FromWorker, on_batch, on_close, is_own)
        self.shell.worker_streams[address] = stream
        return stream

    def _end_connection(self, worker: WorkerState) -> None:
        """An old connection, which we may not have seen break."""
        self.verdicts.end(worker.address)
        if stream := self.shell.worker_streams.pop(worker.address, None):
            stream.abort()

    def _name_taken(self, name: object, address: str, nanny: str | None) -> str | None:
        """The reason why a worker may not have a name, if there is one."""
        taken = self.core.aliases.get(name) if name is not None else None
        if taken is None or taken == address:
            return None
        holder = self.core.workers[taken]
        if nanny and holder.nanny == nanny:  # which has started this one because the other is dead
            self.verdicts.remove_dead(holder, "its nanny has started another")
            return None
        return f"name taken: {name!r} is the name of the worker at {taken}; give this one another"

    def _new_worker(self, address: str, name: Any, nthreads: int, status: str, details: dict[str, Any]) -> WorkerState:
        return WorkerState(
            address,
            name=name,
            nthreads=nthreads,
            memory_limit=details.get("memory_limit") or 0,
            local_directory=details.get("local_directory") or "",
            pid=details.get("pid") or 0,
            nanny=details.get("nanny"),
            server_id=str(details.get("server_id") or details.get("id") or ""),
            resources=details.get("resources"),
            services=details.get("services"),
            versions=details.get("versions"),
            extra=details.get("extra"),
            hostname=str(details.get("hostname") or ""),
            saturation=self.core.options.saturation,
            bandwidth=self.core.options.bandwidth,
            status=Status[status],
            now=self.shell.now(),
            scheduler=self.shell.facade,
        )

    # Messages

    def _take_batch(self, worker: WorkerState, messages: list[Any]) -> None:
        """Take a worker's messages in their order: the shell's one by one, the core's in runs between them."""
        if self.core.workers.get(worker.address) is not worker:
            return  # late words of one that has gone
        shell = self.shell
        now = worker.heard_at = shell.now()
        worker.last_seen = now + self.core.shift
        try:
            if FROM_WORKER.keys().isdisjoint(map(type, messages)):  # nearly all batches
                self.core.handle_batch(worker, messages, now)
            else:
                self._take_in_runs(worker, messages, now)
        except UnknownMessage as error:
            self._refuse_stream(worker, error)
        if self.core.dirty:
            shell.flush()
        shell.stream_times.note("worker", shell.now() - now, len(messages))

    def _take_in_runs(self, worker: WorkerState, messages: list[Any], now: float) -> None:
        begin = 0
        for position, message in enumerate(messages):
            take = FROM_WORKER.get(type(message))
            if take is None:
                continue
            if begin < position:
                self.core.handle_batch(worker, messages[begin:position], now)
            begin = position + 1
            take(self, worker, message, now)
        if begin < len(messages):
            self.core.handle_batch(worker, messages[begin:], now)

    def _refuse_stream(self, worker: WorkerState, error: UnknownMessage) -> None:
        """A message came that nobody here takes: the two sides do not understand each other."""
        stream = self.shell.worker_streams.get(worker.address)
        address, text = worker.address, "Closing the connection to worker %s: %s"
        self.shell.server.complaints.say("an unknown message", address, text, address, error, level=logging.ERROR)
        if stream is not None:
            stream.abort()

    def _take_heartbeat(self, worker: WorkerState, message: WorkerHeartbeat, now: float) -> None:
        self.core.on_heartbeat(worker, message, now, self.shell.memory_settings.recent_to_old_time)
        if message.extensions:
            self._tell_extensions(worker, message.extensions)

    def _tell_extensions(self, worker: WorkerState, said: dict[str, Any]) -> None:
        """Pass the words of a worker's extensions, from its heartbeat, on to the extensions here of the same name."""
        for name, words in said.items():
            heartbeat = getattr(self.shell.extensions.get(name), "heartbeat", None)
            if heartbeat is not None:
                try:
                    heartbeat(worker, words)
                except BaseException as raised:
                    log_raised(logger, raised, "The extension %r failed in heartbeat", name)

    def _take_status(self, worker: WorkerState, message: WorkerStatus, now: float) -> None:
        if message.status == Status.closing.name:
            self._take_end(worker, message)
        else:
            self.shell.change_worker_status(worker, message.status)

    def _take_event(self, worker: WorkerState, message: WorkerEvent, now: float) -> None:
        event = message.event
        if type(event) is dict and message.topics != [worker.address]:
            event = {**event, "worker": worker.address}
        self.shell.log_event(message.topics, event)

    def _take_handler_message(self, worker: WorkerState, message: HandlerMessage, now: float) -> None:
        self.shell.facade.take_handler_message(message, worker.address, worker=worker.address)

    def _take_end(self, worker: WorkerState, message: WorkerStatus) -> None:
        """A worker says that it closes."""
        if not message.cause:
            self.shell.change_worker_status(worker, message.status, message.reason)
            return
        logger.warning("Worker %s closes, and nobody who may ask for that has: %s", worker.address, message.cause)
        self.verdicts.end(worker.address)
        self.removal.drop_worker(worker.address, close=False, reason=message.cause, blamed=message.blamed)

    def heartbeat_worker(
        self,
        /,
        *,
        address: str,
        resolve_address: bool = True,
        now: float | None = None,
        resources: dict[str, float] | None = None,
        host_info: object = None,
        metrics: dict[str, Any] | None = None,
        executing: dict[Any, float] | None = None,
        extensions: dict[str, Any] | None = None,
        **_: object,
    ) -> dict[str, Any]:
        """A worker lives, or asks whether it is known: status "OK", or "missing".

        Args:
            now: seconds since the epoch by its clock.
            metrics: readings of its process.
            executing: seconds so far, by key of what runs there.
            extensions: what its extensions say to those here, by name.
        """
        worker = self.core.workers.get(self.directory.coerce_address(address, resolve=False))
        known = worker is not None
        if worker is not None and metrics is not None:
            said = WorkerHeartbeat(now or time.time(), metrics, executing or {}, extensions or {})
            self._take_batch(worker, [said])
        status = "OK" if known else "missing"
        return {"status": status, "time": time.time(), "heartbeat-interval": self.heart_rates.interval}


def is_own(message: object, error: Exception) -> bool:
    """Whether a message that cannot be sent is a plugin's, for which nothing here waits."""
    return isinstance(message, HandlerMessage)


#: The messages of workers that the shell takes; the others are the core's.
FROM_WORKER: dict[type, Callable[[WorkerConnections, WorkerState, Any, float], None]] = {
    WorkerHeartbeat: WorkerConnections._take_heartbeat,
    WorkerStatus: WorkerConnections._take_status,
    WorkerEvent: WorkerConnections._take_event,
    HandlerMessage: WorkerConnections._take_handler_message,
}
