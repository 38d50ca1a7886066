"""Workers whose lifetime is over leave one after another, so that those that stay, or come anew, can take their data.

Gives turns only: how a worker leaves, and what becomes of its data, is `retire_workers`'s affair.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from headrace.common.status import Status
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell, logger
from headrace.scheduler.state.data.memory_manager import RetireWorker
from headrace.scheduler.state.records.workers import WorkerState
from headrace.scheduler.worker_directory import WorkerDirectory

#: Of so many workers one may be leaving at a time; of fewer, one.
SHARE = 4
#: Seconds that a turn takes at most, the start of a replacement apart.
TURN_SECONDS = 120.0
#: Seconds for which a replacement is waited for: before the next one's turn, and by one that has nobody to give its
#: data to.
REPLACEMENT_SECONDS = 30.0
#: Workers whose lifetime ends within so many seconds are not given the data of those that leave, if others are there.
SOON = 60.0
#: Seconds between two looks at whose turn it is: for each worker that waits before this one, up to the second.
LOOK = 0.05
LONGEST_LOOK = 1.0


class LifetimeDepartures:
    """Gives workers whose lifetime is over their turns to leave.

    Args:
        directory: finds workers by name.
    """

    def __init__(self, shell: Shell, directory: WorkerDirectory) -> None:
        self.shell = shell
        self.core = shell.core
        self.directory = directory
        #: when a worker's lifetime ends, by address, on the monotonic clock
        self._ends: dict[str, float] = {}
        #: workers that wait for their turn, first come first served, with a mark of the request that waits
        self._line: dict[str, object] = {}
        #: workers whose turn it is
        self._going: dict[str, None] = {}

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {"turn_to_leave": Operation(self.turn_to_leave)}

    def note_lifetime(self, address: str, seconds: float | None) -> None:
        """A worker has come that will leave in so many seconds, or never."""
        self._ends.pop(address, None)
        if seconds is not None:
            self._ends[address] = time.monotonic() + seconds

    def about_to_leave(self) -> set[WorkerState]:
        """Workers to which nothing should be given that is to stay."""
        for address in [address for address in self._ends if address not in self.core.workers]:
            del self._ends[address]
        soon = time.monotonic() + SOON
        leaving = {*self._line, *self._going, *(address for address, end in self._ends.items() if end < soon)}
        return {self.core.workers[address] for address in leaving if address in self.core.workers}

    async def turn_to_leave(self, worker: str, restart: bool = False) -> dict[str, str]:
        """Wait until a worker whose time is over may leave; it is to do so at once then.

        Args:
            restart: whether its nanny will start another.
        """
        worker = self.directory.coerce_address(worker, resolve=False)
        record = self.core.workers.get(worker)
        if record is None:
            return {"status": "missing"}
        loop = asyncio.get_running_loop()
        alone_since: float | None = None
        place = self._line[worker] = object()
        try:
            while self.core.workers.get(worker) is record and self.shell.is_running:
                if self._line.get(worker) is not place:
                    return {"status": "asked-again"}  # on another connection: this one's end does not hear us
                waiting_before = list(self._line).index(worker) - self._free_turns()
                if waiting_before < 0:
                    if restart or self._can_give(record):
                        break
                    alone_since = loop.time() if alone_since is None else alone_since
                    if loop.time() - alone_since > REPLACEMENT_SECONDS:
                        logger.warning("Worker %s leaves with results that nobody is there to take", worker)
                        break
                await asyncio.sleep(min(LOOK * max(1, waiting_before), LONGEST_LOOK))
        finally:
            if self._line.get(worker) is place:
                del self._line[worker]
        self._going[worker] = None
        self.shell.run_in_background(self._see_off(record, restart))
        return {"status": "OK"}

    def _free_turns(self) -> int:
        return max(1, len(self.core.workers) // SHARE) - len(self._going)

    def _can_give(self, worker: WorkerState) -> bool:
        """Whether somebody is there to take what only this worker holds."""
        if any(other is not worker and other.address not in self._going for other in self.core.running):
            return True
        return next(iter(RetireWorker.endangered(worker)), None) is None

    async def _see_off(self, worker: WorkerState, restart: bool) -> None:
        """A worker's turn: until it has gone, and its nanny, if it has one, has started another."""
        try:
            await self._wait_until(lambda: self.core.workers.get(worker.address) is not worker, TURN_SECONDS)
            if restart and worker.nanny:
                nanny = worker.nanny
                await self._wait_until(
                    lambda: any(w.nanny == nanny and w.status is Status.running for w in self.core.workers.values()),
                    REPLACEMENT_SECONDS,
                )
        finally:
            self._going.pop(worker.address, None)

    async def _wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            await asyncio.sleep(LOOK)
