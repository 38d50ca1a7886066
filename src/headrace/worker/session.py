"""A worker's side of the conversation with the scheduler: registration, heartbeat, and coming back to it.

A worker whose connection breaks keeps its results and connects again with them. Nothing here changes a task's state
but by events.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from headrace.comm import Comm, connect
from headrace.common.keys import Key, from_wire
from headrace.common.status import Status
from headrace.containment import log_raised
from headrace.exceptions import FatalCommClosedError, UnknownOperationError
from headrace.messages.base import HandlerMessage
from headrace.messages.worker import (
    AddKeys,
    FreeKeys,
    ReleasedData,
    ToWorker,
    WorkerEvent,
    WorkerHeartbeat,
    WorkerStatus,
)
from headrace.rpc import PeriodicCallback, Stream, send_recv

from .state.events import FindMissing, SchedulerLost

if TYPE_CHECKING:
    from .server import WorkerServer

logger = logging.getLogger("distributed.worker")

#: Seconds between two questions where missing data are.
FIND_MISSING_SECONDS = 1.0
#: Heartbeats come at multiples of so many seconds by the wall clock: what several workers say at one moment costs the
#: scheduler much less than as many moments.
BEAT_SECONDS = 0.1
#: Seconds before a registration that failed is tried again, at first and at most.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0


def heard_from(extensions: Mapping[str, Any]) -> dict[str, Any]:
    """The extensions' parts of a heartbeat, by their names."""
    said = {}
    for name, extension in list(extensions.items()):  # a task may add one from its thread
        if hasattr(extension, "heartbeat"):
            try:
                said[name] = extension.heartbeat()
            except BaseException as raised:
                log_raised(logger, raised, "The extension %r failed in heartbeat", name)
    return said


def seconds_to_beat(interval: float) -> float:
    """Seconds to the first of a worker's heartbeats, at random within an interval, but with those of other workers.

    Args:
        interval: seconds between two heartbeats.
    """
    first = random.uniform(0, max(0.0, interval - BEAT_SECONDS))
    return first + -(time.time() + first) % min(BEAT_SECONDS, interval)


class SchedulerSession:
    """One worker's registration with its scheduler.

    Args:
        worker: whose.
        reconnect: whether to register again when the connection breaks; else the worker closes.

    Attributes:
        scheduler_id: of the scheduler that it is, or was last, registered with.
        latency: seconds from the last registration to the scheduler's answer; a guess before.
    """

    def __init__(self, worker: WorkerServer, reconnect: bool = True) -> None:
        self._worker = worker
        self.reconnect = reconnect
        self.scheduler_id: str | None = None
        self.latency = 0.001
        self._interval = 0.0

    async def register(self, timeout: float) -> None:
        """Connect, and become one of the scheduler's workers.

        Args:
            timeout: seconds to connect in.

        Raises:
            OSError: the scheduler cannot be reached.
            ValueError: it is none, or refuses.
        """
        worker = self._worker
        comm = await connect(worker.scheduler_address, timeout=timeout, **worker.scheduler_connection_args)
        comm.name = "Worker->Scheduler"
        held, status = self._held(), self._status()
        request = await self._request(held, status)
        asked = time.monotonic()
        try:
            reply = await send_recv(comm, **request)
            self.latency = time.monotonic() - asked
            worker.activities.add("latency", self.latency)
            if reply["status"] != "OK":
                raise ValueError(f"the scheduler at {worker.scheduler_address} refused this worker: {reply['message']}")
        except UnknownOperationError as error:
            comm.abort()
            raise ValueError(f"{worker.scheduler_address} is no scheduler's address: {error}") from error
        except BaseException:
            comm.abort()
            raise
        before, self.scheduler_id = self.scheduler_id, reply.get("id")
        self.open_stream(comm)
        # a plugin that comes with the registration is there before the first task: messages wait for this turn's end
        for name, plugin in (reply.get("worker_plugins") or {}).items():
            await worker.operations.plugin_add(plugin, name)
        self._start_heart(worker.heartbeat_interval or float(reply["heartbeat_interval"]))
        if before is not None and before != self.scheduler_id:
            logger.warning("There is another scheduler at %s now: all results are dropped", worker.scheduler_address)
            worker.take(FreeKeys(list(worker.core.tasks)))
        elif before is not None:
            self._correct(held, status)
        worker._act()

    def open_stream(self, comm: Comm, ended: Callable[[], None] | None = None) -> None:
        """Talk with the scheduler by this comm from now on.

        Args:
            ended: called when it has closed.
        """
        worker = self._worker

        def on_close(error: Exception | None) -> None:
            self._on_close(stream, error)
            if ended is not None:
                ended()

        stream = Stream(comm, ToWorker, worker._take_messages, on_close, _is_event)
        before, worker.batched_stream = worker.batched_stream, stream
        if before is not None:
            before.abort()

    async def register_within(self, seconds: float) -> None:
        """Register, and try again while connections break, until the time is over.

        Raises:
            TimeoutError: it is; says what was the matter.
            FatalCommClosedError, ValueError: trying again would not help.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        pause = FIRST_PAUSE
        while True:
            left = deadline - loop.time()
            try:
                async with asyncio.timeout(left):
                    await self.register(0.95 * left)  # so that it is its own error that is seen, with the cause
                return
            except (TimeoutError, FatalCommClosedError):
                raise
            except OSError as error:
                if loop.time() + pause > deadline:
                    raise TimeoutError(f"{type(error).__name__}: {error}") from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _request(self, held: dict[Key, int], status: Status) -> dict[str, Any]:
        worker = self._worker
        return {
            "op": "register-worker",
            "address": worker.address,
            "name": worker.name,
            "nthreads": worker.nthreads,
            "memory_limit": worker.memory_limit,
            "resources": worker.core.total_resources,
            "local_directory": worker.local_directory,
            "pid": os.getpid(),
            "hostname": socket.gethostname(),
            "services": worker.other_ports(),
            "nanny": worker.nanny,
            "versions": worker.versions(),
            "status": status.name,
            "server_id": worker.id,
            "extra": await self.startup_information(),
            "scheduler_id": self.scheduler_id,
            "keys": held,
            "lifetime": worker.life.left,
            "scattered": worker.scattered.unsettled(held),
        }

    def _status(self) -> Status:
        status = self._worker.status
        return status if status in (Status.paused, Status.closing_gracefully) else Status.running

    def _held(self) -> dict[Key, int]:
        return {key: task.nbytes for key, task in self._worker.core.tasks.items() if task.state == "memory"}

    def _correct(self, told: dict[Key, int], status: Status) -> None:
        """Tell the scheduler what changed while the registration was under way: tasks did not wait for its end."""
        held = self._held()
        messages: list[Any] = [ReleasedData(key) for key in told if key not in held]
        unsettled = set(self._worker.scattered.unsettled(held))
        if news := [key for key in held if key not in told and key not in unsettled]:
            messages.append(AddKeys(news))
        if self._status() is not status:
            messages.append(WorkerStatus(self._status().name))
        if messages and self._worker.batched_stream is not None:
            self._worker.batched_stream.send_all(messages)
        if failed := [key for key, task in self._worker.core.tasks.items() if task.state == "error"]:
            self._worker.take(FreeKeys(failed))  # nobody has heard of these failures: they run elsewhere

    async def startup_information(self) -> dict[str, Any]:
        """The values of the worker's functions of that name; those that fail are left out."""
        found = {}
        for name, function in self._worker.startup_information.items():
            try:
                value = function(self._worker)
                found[name] = await value if inspect.isawaitable(value) else value
            except BaseException as raised:
                log_raised(logger, raised, "Could not get the startup information %r", name, awaited=True)
        return found

    async def ask_for_restart(self, key: Key) -> None:
        """Have the scheduler make the nanny restart this worker, because a task does not end that is to end."""
        worker, task = self._worker, from_wire(key)
        if worker.nanny is None:
            logger.error(
                "The task %r was cancelled with force and does not end, and the worker at %s has no nanny that could "
                "restart it. Its thread is left to itself. Restart this worker to get rid of it; start workers with a "
                "nanny to have that done",
                task,
                worker.address,
            )
            return
        logger.warning("The task %r was cancelled with force and does not end: this worker is restarted", task)
        try:
            await worker.scheduler.restart_stuck(worker=worker.address, key=key)
        except OSError as error:
            logger.info("The connection ended while the scheduler was asked for a restart: %s", error)

    # Signs of life

    def _start_heart(self, interval: float) -> None:
        self.heartbeat()
        if interval == self._interval:
            return  # it beats already
        self._interval = interval
        self._every("heartbeat", self.heartbeat, interval)
        if self._worker.heartbeat_interval is None:
            self._worker.periodic_callbacks["heartbeat"].change_period(interval * 1000, seconds_to_beat(interval))
        self._every("find-missing", self.find_missing, FIND_MISSING_SECONDS)
        memory = self._worker.memory_manager
        if memory.monitored:
            self._every("memory_monitor", memory.look, memory.memory_monitor_interval)

    def change_heart_rate(self, interval: float) -> None:
        """Have so many seconds between heartbeats from now on, unless this worker was made with an interval.

        The next comes at some time within them: all workers are told at once, and are not all to answer at once.
        """
        beat = self._worker.periodic_callbacks.get("heartbeat")
        if self._worker.heartbeat_interval is None and beat is not None and beat.is_running():
            self._interval = interval
            beat.change_period(interval * 1000, seconds_to_beat(interval))

    def _every(self, name: str, callback: Callable[[], Any], seconds: float) -> None:
        callbacks = self._worker.periodic_callbacks
        if name in callbacks:
            callbacks[name].stop()
        callbacks[name] = PeriodicCallback(callback, seconds * 1000)
        callbacks[name].start()

    def heartbeat(self) -> None:
        """Tell the scheduler that the worker is alive."""
        worker = self._worker
        if worker.batched_stream is not None:
            worker.batched_stream.send(self.news())

    def news(self) -> WorkerHeartbeat:
        """A heartbeat with all that the scheduler has not been told; whoever asks for it must send it."""
        worker = self._worker
        executing = worker.task_executor.executing(time.monotonic())
        message = WorkerHeartbeat(time.time(), worker.measured.read(), executing)
        if worker.extensions:
            message.extensions = heard_from(worker.extensions)
        if spent := worker.activities.take_news():
            message.extensions = {**message.extensions, "spans": spent}
        worker.transfers.bandwidth_told()
        return message

    def find_missing(self) -> None:
        """Have the scheduler asked for who holds what is nowhere to be found."""
        if self._worker.core.missing_dep_flight:
            self._worker.take(FindMissing())

    # The end of a connection

    def drop(self, error: Exception) -> None:
        """Close the connection because of what came over it; the worker registers again, unless it shall not."""
        stream = self._worker.batched_stream
        if stream is not None:
            stream.abort()
            self._on_close(stream, error)

    def _on_close(self, stream: Stream, error: Exception | None) -> None:
        worker = self._worker
        if worker.batched_stream is not stream or worker.status in (Status.closing, Status.closed, Status.failed):
            return
        worker.batched_stream = None
        reason = f"the connection to the scheduler broke: {error}" if error else "the scheduler closed the connection"
        if not self.reconnect or worker.status is Status.closing_gracefully or worker.core.close_requested:
            logger.info("Worker at %s closes: %s", worker.address_safe, reason)
            worker.close_soon(reason)
            return
        logger.warning("Worker at %s registers again: %s", worker.address_safe, reason)
        worker.take(SchedulerLost())
        worker.run_in_background(self._return(reason))

    async def _return(self, reason: str) -> None:
        """Register again until the time for it is over; then close."""
        worker = self._worker
        seconds = worker.options.connect_timeout if worker.death_timeout is None else worker.death_timeout
        try:
            await self.register_within(seconds)
        except TimeoutError as error:
            worker.close_soon(f"{reason}; it could not be reached again within {seconds:g} s ({error})")
        except (OSError, ValueError) as error:
            worker.close_soon(f"{reason}; {error}")
        else:
            logger.info("Worker at %s is registered again with %s", worker.address_safe, worker.scheduler_address)

    async def close(self) -> None:
        """Leave the scheduler."""
        worker = self._worker
        stream, worker.batched_stream = worker.batched_stream, None
        if stream is not None and not stream.closed:
            stream.send(WorkerStatus(Status.closing.name, worker.death_cause, worker.blamed, worker.close_reason))
            await stream.close()


def _is_event(message: object, error: Exception) -> bool:
    """Whether a message that cannot be sent is one that nobody waits for (what tasks publish may be anything)."""
    return isinstance(message, (WorkerEvent, HandlerMessage))
