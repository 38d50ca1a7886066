"""The coming and going of workers: registration, silence, broken connections, and what a worker died of.

A broken connection may be a death or not. The work is placed anew at once either way; what the tasks are blamed for is
corrected when the worker comes back, or when its nanny says what it died of.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from headrace import clock, config
from headrace.comm import Comm
from headrace.common.keys import Key, from_wire
from headrace.common.status import Status
from headrace.exceptions import BadRequestError, KilledWorker, KilledWorkerLeaving
from headrace.messages import FromWorker
from headrace.messages.base import Payload
from headrace.messages.worker import WorkerEvent, WorkerHeartbeat, WorkerStatus
from headrace.protocol import dumps
from headrace.rpc import PeriodicCallback, Stream
from headrace.scheduler.shell import SchedulerBase, logger
from headrace.scheduler.state.flow import membership
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState

from .registration import (
    MOST_THREADS,
    checked_address,
    checked_count,
    checked_details,
    checked_name,
    checked_sizes,
    checked_status,
)

#: Seconds between a worker's heartbeats.
HEARTBEAT_SECONDS = 0.5
#: Seconds for which a worker whose connection broke may come back before its work is placed anew.
VERDICT_SECONDS = 1.0
#: Seconds for which a worker that is gone may come back and clear its tasks of the suspicion.
RETURN_SECONDS = 60.0


def killed_payload(key: Key, worker: WorkerState, allowed_failures: int, cause: str) -> Payload:
    """What clients raise for a task under which too many workers died."""
    return dumps(KilledWorker(from_wire(key), _last_of(worker), allowed_failures, cause))


def left_payload(key: Key, worker: WorkerState, allowed: int, cause: str) -> Payload:
    """What clients raise for a task under which too many workers left in good order."""
    return dumps(KilledWorkerLeaving(from_wire(key), _last_of(worker), allowed, cause))


def _last_of(worker: WorkerState) -> WorkerState:
    last = worker.clean()
    last.status = Status.closed
    return last


class WorkerConnections(SchedulerBase):
    """Streams to workers."""

    coerce_address: Callable[..., str]
    drop_worker: Callable[..., str]
    note_lifetime: Callable[[str, float | None], None]
    tell_extensions: Callable[[WorkerState, dict[str, Any]], None]

    def prepare_workers(self, worker_ttl: Any) -> None:
        """Called once, when the scheduler is made."""
        given = config.get("distributed.scheduler.worker-ttl", None) if worker_ttl is None else worker_ttl
        self.worker_ttl = config.parse_seconds(given) if given else None
        self._verdicts: dict[str, asyncio.TimerHandle] = {}
        self._suspects: dict[str, tuple[float, list[TaskState]]] = {}
        #: what nannies said of the ends of processes: why, and whether somebody had asked for it
        self._ends_told: dict[str, tuple[str, bool]] = {}
        self._last_look = 0.0
        self.server.takeovers["register-worker"] = self.add_worker
        self.server.handlers["worker_exited"] = self._worker_exited
        self.server.handlers["heartbeat_worker"] = self.heartbeat_worker

    def watch_workers(self) -> None:
        """Look for workers that are silent, from now on."""
        if self.worker_ttl is not None:
            interval = max(self.worker_ttl / 4, 0.05)
            check = PeriodicCallback(lambda: self._check_worker_ttl(interval), interval * 1000)
            self._last_look = time.monotonic()
            self.periodic_callbacks["worker-ttl"] = check
            check.start()

    # They come

    async def add_worker(
        self,
        comm: Comm,
        *,
        address: str,
        status: str = "running",
        server_id: str = "",
        nthreads: int = 1,
        name: Any = None,
        resolve_address: bool = True,
        now: float | None = None,
        resources: dict[str, float] | None = None,
        host_info: Any = None,
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
            await self.refuse(comm, "worker", refusal)
            return
        await comm.write(
            {
                "status": "OK",
                "id": self.id,
                "heartbeat_interval": HEARTBEAT_SECONDS,
                "worker_plugins": self.worker_plugins,
            }
        )
        if scheduler_id not in (None, self.id):
            held = {}
        before = self.workers.get(address)
        if before is not None:
            self._end_connection(before)
        worker = self._new_worker(address, name, nthreads, status, details)
        self.note_lifetime(address, details.get("lifetime"))
        if before is not None and (before.server_id != worker.server_id or not worker.server_id):
            self.drop_worker(address, close=False, reason="another worker has registered at its address")
            before = None
        _, suspected = self._suspects.pop(worker.server_id, (0, ()))
        membership.pardon(suspected)
        self._start_worker_stream(worker, comm)
        self.state.add_worker(worker, held, clock.now(), scattered=scattered)
        self.flush()
        logger.info("Register worker addr: %s name: %s", address, worker.name)
        if before is not None:
            return  # to everyone else it has not been away
        self.log_event(["all", address], {"action": "add-worker", "worker": address})
        self.notify_plugins("add_worker", self, address)

    async def handle_worker(self, comm: Comm, worker: str) -> None:
        """Take a worker's messages from a connection, as `add_worker` has it done, and wait until it closes.

        A connection that the worker had before is given up.

        Args:
            worker: address of a worker on record.

        Raises:
            KeyError: there is none.
        """
        record = self.workers.get(self.coerce_address(worker, resolve=False))
        if record is None:
            raise KeyError(f"there is no worker {worker!r} whose messages could be taken")
        self._end_connection(record)
        ended = asyncio.Event()
        self._start_worker_stream(record, comm, ended.set)
        await ended.wait()

    def _start_worker_stream(self, worker: WorkerState, comm: Comm, ended: Callable[[], None] | None = None) -> None:
        address = worker.address

        def on_batch(messages: list[Any]) -> None:
            self._worker_batch(worker, messages)

        def on_close(error: Exception | None) -> None:
            if self.stream_comms.get(address) is stream and self.status is Status.running:
                self._worker_lost(worker, f"its connection broke: {error}" if error else "its connection closed")
            if ended is not None:
                ended()

        stream = Stream(comm, FromWorker, on_batch, on_close)
        self.stream_comms[address] = stream

    def _end_connection(self, worker: WorkerState) -> None:
        """An old connection, which we may not have seen break."""
        self._end_verdict(worker.address)
        if stream := self.stream_comms.pop(worker.address, None):
            stream.abort()

    def _name_taken(self, name: Any, address: str, nanny: str | None) -> str | None:
        """Why a worker may not have a name, if so."""
        taken = self.aliases.get(name) if name is not None else None
        if taken is None or taken == address:
            return None
        holder = self.workers[taken]
        if nanny and holder.nanny == nanny:  # which has started this one because the other is dead
            self._remove_dead(holder, "its nanny has started another")
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
            saturation=self.state.options.saturation,
            bandwidth=self.state.options.bandwidth,
            status=Status[status],
            now=clock.now(),
            scheduler=self,
        )

    # They speak

    def _worker_batch(self, worker: WorkerState, messages: list[Any]) -> None:
        if self.workers.get(worker.address) is not worker:
            return  # late words of one that has gone
        now = worker.heard_at = clock.now()
        worker.last_seen = now + self.state.shift
        end: WorkerStatus | None = None
        reports = [message for message in messages if type(message) not in (WorkerHeartbeat, WorkerStatus, WorkerEvent)]
        for message in messages:
            kind = type(message)
            if kind is WorkerHeartbeat:
                self.state.on_heartbeat(worker, message, now, self.MEMORY_RECENT_TO_OLD_TIME)
                if message.extensions:
                    self.tell_extensions(worker, message.extensions)
            elif kind is WorkerStatus:
                if message.status == Status.closing.name:
                    end = message
                else:
                    self.state.set_worker_status(worker, message.status, now)
            elif kind is WorkerEvent:
                self.log_event(message.topics, message.event)
        self.state.handle_batch(worker, reports, now)
        if end is not None:  # its last word: what has ended before counts, and is no matter of blame
            self._worker_ends(worker, end)
        if self.state.dirty:
            self.flush()

    def _worker_ends(self, worker: WorkerState, words: WorkerStatus) -> None:
        """A worker says that it closes."""
        if not words.cause:
            self.state.set_worker_status(worker, words.status, clock.now(), words.reason)
            return
        logger.warning("Worker %s closes, and nobody who may ask for that has: %s", worker.address, words.cause)
        self._end_verdict(worker.address)
        self.drop_worker(worker.address, close=False, reason=words.cause, blamed=words.blamed)

    def heartbeat_worker(
        self,
        *,
        address: str,
        resolve_address: bool = True,
        now: float | None = None,
        resources: dict[str, float] | None = None,
        host_info: Any = None,
        metrics: dict[str, Any] | None = None,
        executing: dict[Any, float] | None = None,
        extensions: dict[str, Any] | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """A worker lives, or asks whether it is known: status "OK", or "missing".

        Args:
            now: seconds since the epoch by its clock.
            metrics: readings of its process.
            executing: seconds so far, by key of what runs there.
            extensions: what its extensions say to those here, by name.
        """
        worker = self.workers.get(self.coerce_address(address, resolve=False))
        known = worker is not None
        if worker is not None and metrics is not None:
            said = WorkerHeartbeat(now or time.time(), metrics, executing or {}, extensions or {})
            self._worker_batch(worker, [said])
        return {"status": "OK" if known else "missing", "time": time.time(), "heartbeat-interval": HEARTBEAT_SECONDS}

    # They go

    def _worker_lost(self, worker: WorkerState, reason: str) -> None:
        """A connection broke; whether the worker is dead is not known, unless its nanny was faster."""
        address = worker.address
        logger.info("Worker %s: %s", address, reason)
        if address in self._ends_told or not self._worth_waiting(worker):
            self._remove_dead(worker, reason)
            return
        if worker.status is Status.running:
            self.state.set_worker_status(worker, Status.paused.name, clock.now())
            self.flush()
        loop = asyncio.get_running_loop()
        self._verdicts[address] = loop.call_later(VERDICT_SECONDS, self._remove_dead, worker, reason)

    def _worth_waiting(self, worker: WorkerState) -> bool:
        """Whether a moment's patience may save something: until a nanny tells of a death, or the worker is back."""
        if worker.status is Status.closing:
            return False  # it has said that it goes
        if worker.nanny:
            return worker.status in (Status.running, Status.paused)
        limit = self.state.options.allowed_failures
        return any(task.suspicious >= limit for task in membership.suspects(worker)) or any(
            task.function is None and len(task.who_has) == 1 for task in worker.has_what
        )

    def _remove_dead(self, worker: WorkerState, reason: str) -> None:
        address = worker.address
        self._end_verdict(address)
        if self.workers.get(address) is not worker or not self.is_running:
            return
        cause, asked = self._ends_told.pop(address, ("", False))
        expected = asked or worker.status is Status.closing  # it has said so itself
        if not cause and not expected and worker.server_id:
            self._suspect(worker)
        self.drop_worker(address, expected=expected, close=False, reason=cause or reason)

    def _suspect(self, worker: WorkerState) -> None:
        now = time.monotonic()
        for server_id, (since, _) in list(self._suspects.items()):
            if since < now - RETURN_SECONDS:
                del self._suspects[server_id]
        tasks = membership.suspects(worker)
        if tasks:
            self._suspects[worker.server_id] = (now, tasks)

    def _end_verdict(self, address: str) -> None:
        timer = self._verdicts.pop(address, None)
        if timer is not None:
            timer.cancel()

    def _worker_exited(self, worker: str, pid: int, cause: str, asked: bool = False) -> dict[str, str]:
        """A nanny tells how its worker's process ended without a word of its own.

        Args:
            cause: what of, in words.
            asked: whether the nanny was to end it, so that no task is to blame; else it died.
        """
        worker = self.coerce_address(worker, resolve=False)
        record = self.workers.get(worker)
        if not asked:
            self.log_event(["all", worker], {"action": "worker-exited", "worker": worker, "pid": pid, "cause": cause})
        if record is None or record.pid != pid:
            return {"status": "OK"}
        if asked:
            logger.info("Worker %s (process %s) ended: %s", worker, pid, cause)
        else:
            logger.warning("Worker %s (process %s) died: %s", worker, pid, cause)
        self._ends_told[worker] = (cause, asked)
        stream = self.stream_comms.get(worker)
        if worker in self._verdicts or stream is None or stream.closed:
            self._remove_dead(record, cause)
        else:  # its last words are still to be read; then its connection ends
            asyncio.get_running_loop().call_later(VERDICT_SECONDS, self._remove_dead, record, cause)
        return {"status": "OK"}

    async def check_worker_ttl(self) -> None:
        """Drop workers that have been silent for too long, now."""
        if self.worker_ttl is not None:
            self._last_look = time.monotonic()
            self._check_worker_ttl(self.worker_ttl)

    def _check_worker_ttl(self, interval: float) -> None:
        """Drop workers that have been silent for too long."""
        now, before = time.monotonic(), self._last_look
        self._last_look = now
        if now - before > 2 * interval:
            return  # it is we who were away; what they have said meanwhile is still to be read
        assert self.worker_ttl is not None
        limit = max(self.worker_ttl, 2 * HEARTBEAT_SECONDS)
        for worker in list(self.workers.values()):
            silence = clock.now() - worker.heard_at
            if silence > limit:
                self._drop_silent(worker, silence)

    def _drop_silent(self, worker: WorkerState, silence: float) -> None:
        reason = f"no heartbeat came for {silence:.1f} s (distributed.scheduler.worker-ttl)"
        logger.warning("Worker %s is dropped: %s", worker.address, reason)
        stream = self.stream_comms.pop(worker.address, None)
        self._remove_dead(worker, reason)
        if stream is not None:
            stream.abort()  # if the process wakes up, it sees that and registers again
        if worker.nanny:
            self.run_in_background(self._have_restarted(worker.nanny, reason))

    async def _have_restarted(self, nanny: str, reason: str) -> None:
        try:
            await self.worker_rpc(nanny).restart(reason=reason)
        except Exception as error:
            logger.warning("The nanny at %s could not be asked to restart its worker: %s", nanny, error)
