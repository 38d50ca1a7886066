"""Verdicts on workers whose connection broke: whether they are dead, what they died of, and which tasks are suspected.

A broken connection may be a death or not. The work is placed anew soon either way; what the tasks are blamed for is
corrected when the worker comes back, or when its nanny tells what it died of.
"""

from __future__ import annotations

import asyncio
import time

from headrace.common.keys import Key, from_wire
from headrace.common.status import Status
from headrace.exceptions import KilledWorker, KilledWorkerLeaving
from headrace.messages.base import Payload
from headrace.protocol import dumps
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell, logger
from headrace.scheduler.state.flow import membership
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState
from headrace.scheduler.worker_directory import WorkerDirectory

from .worker_removal import WorkerRemoval

#: Seconds for which a worker whose connection broke may come back before its work is placed anew.
VERDICT_SECONDS = 1.0
#: Seconds for which a worker that is gone may come back and clear its tasks of the suspicion.
RETURN_SECONDS = 60.0


def killed_payload(key: Key, worker: WorkerState, allowed_failures: int, cause: str) -> Payload:
    """The exception that clients raise for a task under which too many workers died."""
    return dumps(KilledWorker(from_wire(key), _last_of(worker), allowed_failures, cause))


def left_payload(key: Key, worker: WorkerState, allowed: int, cause: str) -> Payload:
    """The exception that clients raise for a task under which too many workers left in good order."""
    return dumps(KilledWorkerLeaving(from_wire(key), _last_of(worker), allowed, cause))


def _last_of(worker: WorkerState) -> WorkerState:
    last = worker.clean()
    last.status = Status.closed
    return last


class Verdicts:
    """Decides on lost workers.

    Args:
        directory: finds workers by name.
        removal: takes workers off the record.
    """

    def __init__(self, shell: Shell, directory: WorkerDirectory, removal: WorkerRemoval) -> None:
        self.shell = shell
        self.core = shell.core
        self.directory = directory
        self.removal = removal
        #: timers of the workers that are waited for, by address
        self._timers: dict[str, asyncio.TimerHandle] = {}
        #: when a dead worker was removed, and the tasks suspected since, by the worker's identifier
        self._suspects: dict[str, tuple[float, list[TaskState]]] = {}
        #: what nannies said of the ends of processes: why, and whether somebody had asked for it
        self._ends_told: dict[str, tuple[str, bool]] = {}

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {"worker_exited": Operation(self._worker_exited)}

    def worker_lost(self, worker: WorkerState, reason: str) -> None:
        """A connection broke; whether the worker is dead is not known, unless its nanny was faster."""
        address = worker.address
        logger.info("Worker %s: %s", address, reason)
        if address in self._ends_told or not self._worth_waiting(worker):
            self.remove_dead(worker, reason)
            return
        if worker.status is Status.running:
            self.core.set_worker_status(worker, Status.paused.name, self.shell.now())
            self.shell.flush()
        loop = asyncio.get_running_loop()
        self._timers[address] = loop.call_later(VERDICT_SECONDS, self.remove_dead, worker, reason)

    def _worth_waiting(self, worker: WorkerState) -> bool:
        """Whether a moment's patience may save something: until a nanny tells of a death, or the worker is back."""
        if worker.status is Status.closing:
            return False  # it has said that it goes
        if worker.nanny:
            return worker.status in (Status.running, Status.paused)
        limit = self.core.options.allowed_failures
        return any(task.suspicious >= limit for task in membership.suspects(worker)) or any(
            task.function is None and len(task.who_has) == 1 for task in worker.has_what
        )

    def remove_dead(self, worker: WorkerState, reason: str) -> None:
        """Take a worker off the record as dead, unless it is known that it was to end."""
        address = worker.address
        self.end(address)
        if self.core.workers.get(address) is not worker or not self.shell.is_running:
            return
        cause, asked = self._ends_told.pop(address, ("", False))
        expected = asked or worker.status is Status.closing  # it has said so itself
        if not cause and not expected and worker.server_id:
            self._suspect(worker)
        self.removal.drop_worker(address, expected=expected, close=False, reason=cause or reason)

    def pardon(self, worker: WorkerState) -> None:
        """A worker that was taken for dead is back: its tasks are not suspected any more."""
        _, suspected = self._suspects.pop(worker.server_id, (0, ()))
        membership.pardon(suspected)

    def _suspect(self, worker: WorkerState) -> None:
        now = time.monotonic()
        for server_id, (since, _) in list(self._suspects.items()):
            if since < now - RETURN_SECONDS:
                del self._suspects[server_id]
        tasks = membership.suspects(worker)
        if tasks:
            self._suspects[worker.server_id] = (now, tasks)

    def end(self, address: str) -> None:
        """Wait for this worker no longer: it is back, or its end is known."""
        timer = self._timers.pop(address, None)
        if timer is not None:
            timer.cancel()

    def _worker_exited(self, worker: str, pid: int, cause: str, asked: bool = False) -> dict[str, str]:
        """A nanny tells how its worker's process ended without a word of its own.

        Args:
            cause: what of, in words.
            asked: whether the nanny was to end it, so that no task is to blame; else it died.
        """
        worker = self.directory.coerce_address(worker, resolve=False)
        record = self.core.workers.get(worker)
        if not asked:
            self.shell.log_event(
                ["all", worker], {"action": "worker-exited", "worker": worker, "pid": pid, "cause": cause}
            )
        if record is None or record.pid != pid:
            return {"status": "OK"}
        if asked:
            logger.info("Worker %s (process %s) ended: %s", worker, pid, cause)
        else:
            logger.warning("Worker %s (process %s) died: %s", worker, pid, cause)
        self._ends_told[worker] = (cause, asked)
        stream = self.shell.worker_streams.get(worker)
        if worker in self._timers or stream is None or stream.closed:
            self.remove_dead(record, cause)
        else:  # its last words are still to be read; then its connection ends
            asyncio.get_running_loop().call_later(VERDICT_SECONDS, self.remove_dead, record, cause)
        return {"status": "OK"}
