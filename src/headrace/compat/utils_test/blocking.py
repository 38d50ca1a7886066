"""Workers, nannies and connections that stop at a chosen point until the test lets them go on.

Each has `asyncio.Event`s: `in_…` is set when the point is reached, `block_…` (or `wait_…`) is to be set by the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from headrace import Nanny, Worker
from headrace.comm import Comm
from headrace.comm.connections import OnBatch, OnClose
from headrace.common.keys import Key, to_wire
from headrace.common.status import Status
from headrace.diagnostics.plugin import WorkerPlugin
from headrace.exceptions import CommClosedError
from headrace.rpc import Stream


def _event() -> cached_property[asyncio.Event]:
    """An attribute that is an event of the object's own, made when it is first used."""
    return cached_property(lambda owner: asyncio.Event())


class BarrierGetData(Worker):
    """Answers no request for data until so many (`barrier_count`) are there at the same time."""

    wait_get_data = _event()

    def __init__(self, *args: Any, barrier_count: int, **kwargs: Any) -> None:
        self.barrier_count = barrier_count
        super().__init__(*args, **kwargs)

    async def get_data(self, comm: Comm, *args: Any, **kwargs: Any) -> object:
        self.barrier_count -= 1
        if self.barrier_count > 0:
            await self.wait_get_data.wait()
        else:
            self.wait_get_data.set()
        return await super().get_data(comm, *args, **kwargs)


class BlockedGetData(Worker):
    """Answers no request for data until `block_get_data` is set; `in_get_data` is set at the first one."""

    in_get_data = _event()
    block_get_data = _event()

    async def get_data(self, comm: Comm, *args: Any, **kwargs: Any) -> object:
        self.in_get_data.set()
        await self.block_get_data.wait()
        return await super().get_data(comm, *args, **kwargs)


class BlockedGatherDep(Worker):
    """Asks nobody for data until `block_gather_dep` is set: what it needs stays in flight.

    >>> async with BlockedGatherDep(s.address) as x:
    ...     future = c.submit(inc, on_another_worker, workers=[x.address])
    ...     await x.in_gather_dep.wait()
    ...     x.block_gather_dep.set()
    """

    in_gather_dep = _event()
    block_gather_dep = _event()

    async def gather_dep(self, *args: Any, **kwargs: Any) -> None:
        self.in_gather_dep.set()
        await self.block_gather_dep.wait()
        await super().gather_dep(*args, **kwargs)


class BlockedExecute(Worker):
    """Begins no task until `block_execute` is set, and is told of no end until `block_execute_exit` is set.

    `in_execute` is set when the first task is about to begin, `in_execute_exit` when it has ended and the worker's
    state does not know of it yet.
    """

    in_execute = _event()
    block_execute = _event()
    in_execute_exit = _event()
    block_execute_exit = _event()

    async def execute(self, key: Key, *, stimulus_id: str) -> None:
        self.in_execute.set()
        await self.block_execute.wait()
        self.task_executor.hold_outcome(to_wire(key), self._leave())
        await super().execute(key, stimulus_id=stimulus_id)

    async def _leave(self) -> None:
        self.in_execute_exit.set()
        await self.block_execute_exit.wait()


class BlockedInstantiateNanny(Nanny):
    """Starts no worker until `wait_instantiate` is set; `in_instantiate` is set when it is about to."""

    in_instantiate = _event()
    wait_instantiate = _event()

    async def instantiate(self) -> Status:
        self.in_instantiate.set()
        await self.wait_instantiate.wait()
        return await super().instantiate()


class BlockedKillNanny(Nanny):
    """Ends its worker only when `wait_kill` is set; `in_kill` is set when it is about to."""

    in_kill = _event()
    wait_kill = _event()

    async def kill(self, *args: Any, **kwargs: Any) -> None:
        self.in_kill.set()
        await self.wait_kill.wait()
        await super().kill(*args, **kwargs)


class NoSchedulerDelayWorker(Worker):
    """A worker whose times need no correction by the scheduler's clock; here no worker's do.

    Attributes:
        scheduler_delay: seconds between the clocks: always 0.
    """

    scheduler_delay = 0.0


class TaskStateMetadataPlugin(WorkerPlugin):
    """Notes in the `metadata` of a worker's tasks when each began and ended, in seconds since the epoch."""

    def setup(self, worker: Worker) -> None:
        self.worker = worker

    def transition(self, key: Key, start: str, finish: str, **kwargs: object) -> None:
        task = self.worker.tasks.get(to_wire(key))
        if task is None:
            return
        if finish == "executing":
            task.metadata["start_time"] = time.time()
        elif start == "executing" and finish == "memory":
            task.metadata["stop_time"] = time.time()


@contextlib.contextmanager
def freeze_data_fetching(w: Worker, *, jump_start: bool = False) -> Iterator[None]:
    """Within the block a worker asks no further peers for data, as if all its connections were taken.

    Args:
        jump_start: ask for what has come to be needed as soon as the block ends, not at the next occasion.
    """
    before = w.state.transfer_incoming_count_limit
    w.state.transfer_incoming_count_limit = 0
    try:
        yield
    finally:
        w.state.transfer_incoming_count_limit = before
        if jump_start:
            w.handle_stimulus()


class BrokenComm(Comm):
    """A connection that was lost: reading and writing fail."""

    local_address = ""
    peer_address = ""

    def __init__(self, deserialize: bool = True) -> None:
        self.deserialize = deserialize
        self.peer_info = {}

    def read(self, deserializers: object = None) -> Any:
        raise CommClosedError("this connection is broken")

    def write(self, msg: object, serializers: object = None, on_error: object = None) -> Any:
        raise CommClosedError("this connection is broken")

    def send(self, message: object) -> None:
        raise CommClosedError("this connection is broken")

    def start_stream(self, incoming: object, on_batch: OnBatch, on_close: OnClose) -> None:
        on_close(CommClosedError("this connection is broken"))

    def close(self) -> Any:
        return asyncio.sleep(0)

    def abort(self) -> None:
        pass

    def closed(self) -> bool:
        return True


class LockedComm(Comm):
    """A connection whose messages pass one by one, as the test lets them.

    Args:
        comm: what it wraps.
        read_event, write_event: until they are set, nothing is read, or leaves; None for no lock.
        read_queue, write_queue: `(peer address, message)` is put there as each comes, or is to be sent; or None.
    """

    def __init__(
        self,
        comm: Comm,
        read_event: asyncio.Event | None,
        read_queue: asyncio.Queue[tuple[str, Any]] | None,
        write_event: asyncio.Event | None,
        write_queue: asyncio.Queue[tuple[str, Any]] | None,
    ) -> None:
        self.comm = comm
        self.read_event, self.read_queue = read_event, read_queue
        self.write_event, self.write_queue = write_event, write_queue
        self.local_address, self.peer_address, self.peer_info = comm.local_address, comm.peer_address, comm.peer_info
        self.deserialize = comm.deserialize
        self._held: list[object] = []

    async def read(self, deserializers: object = None) -> Any:
        if self.read_event is not None:
            await self.read_event.wait()
        message = await self.comm.read()
        if self.read_queue is not None:
            self.read_queue.put_nowait((self.peer_address, message))
        return message

    async def write(self, msg: object, serializers: object = None, on_error: object = "message") -> None:
        if self.write_queue is not None:
            self.write_queue.put_nowait((self.peer_address, msg))
        if self.write_event is not None:
            await self.write_event.wait()
        await self.comm.write(msg)

    def send(self, message: object) -> None:
        if self.write_queue is not None:
            self.write_queue.put_nowait((self.peer_address, message))
        if self.write_event is None or (self.write_event.is_set() and not self._held):
            self.comm.send(message)
        else:
            self._held.append(message)

    def release(self) -> None:
        """Let everything leave that was held."""
        held, self._held = self._held, []
        if self.write_event is not None:
            self.write_event.set()
        for message in held:
            if not self.comm.closed():
                self.comm.send(message)

    def start_stream(self, incoming: object, on_batch: OnBatch, on_close: OnClose) -> None:
        self.comm.start_stream(incoming, on_batch, on_close)

    async def close(self) -> None:
        await self.comm.close()

    def abort(self) -> None:
        self.comm.abort()

    def closed(self) -> bool:
        return self.comm.closed()


@contextlib.contextmanager
def freeze_batched_send(bcomm: Stream) -> Iterator[LockedComm]:
    """Within the block nothing leaves that is sent on a stream; afterwards all of it does, in order.

    Yields:
        the comm that holds the messages: see its `write_queue`, and set its `write_event` to let them go earlier.
    """
    comm = bcomm.comm
    event: asyncio.Event = asyncio.Event()
    locked = LockedComm(comm, None, None, event, asyncio.Queue())
    bcomm.comm = locked
    try:
        yield locked
    finally:
        bcomm.flush()
        bcomm.comm = comm
        locked.release()
