"""A worker's time: preloads as it starts and ends, and a lifetime after which it leaves in good order.

It does not know how a worker leaves; that is `Worker.close_gracefully`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headrace.common.status import Status
from headrace.config import seconds_of
from headrace.exceptions import UnknownOperationError

from .worker_options import WorkerOptions

if TYPE_CHECKING:
    from headrace.preloading import PreloadManager

    from .server import WorkerServer

logger = logging.getLogger("distributed.worker")


class Lifetime:
    """The clock and the preloads of one worker.

    Args:
        given: the constructor's keywords `lifetime`, `lifetime_stagger`, `lifetime_restart`, `preload`,
            `preload_argv`, as far as they were given; the rest is as configured.

    Attributes:
        seconds: how long the worker lives once it has started, the random part included; None for as long as it likes.
        restart: whether its nanny is to start another afterwards.
        has_preloads: whether there are any.
        preloads: those; None until they are loaded, or if there are none.

    Raises:
        ValueError: a time is not one, or negative.
    """

    def __init__(self, worker: WorkerServer, options: WorkerOptions, given: Mapping[str, Any]) -> None:
        self._worker = worker
        chosen = {**options.life, **{name: value for name, value in given.items() if value is not None}}
        seconds = seconds_of(chosen.get("lifetime"))
        stagger = seconds_of(chosen.get("lifetime_stagger")) or 0.0
        if (seconds is not None and seconds < 0) or stagger < 0:
            raise ValueError(f"lifetime and lifetime_stagger must not be negative, and are {seconds} s and {stagger} s")
        if seconds is not None and stagger:
            seconds = max(0.0, seconds + (2 * random.random() - 1) * stagger)
        self.seconds = seconds
        self.restart = bool(chosen.get("lifetime_restart"))
        self._preload, self._preload_argv = chosen.get("preload"), chosen.get("preload_argv")
        self.has_preloads = bool(self._preload)
        self.preloads: PreloadManager | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def load_preloads(self) -> None:
        """Import the preloads.

        Raises:
            ImportError: one cannot be found.
            Exception: one raised it during its import.
        """
        if not self._preload:
            return
        from headrace.preloading import process_preloads

        worker = self._worker
        self.preloads = process_preloads(worker, self._preload, self._preload_argv, worker.local_directory)
        await self.preloads.load()

    async def start_preloads(self) -> None:
        """Run the preloads' `dask_setup`s."""
        if self.preloads is not None:
            await self.preloads.start()

    @property
    def left(self) -> float | None:
        """Seconds that are left of it; all of it before it has begun."""
        if self.seconds is None or self._timer is None:
            return self.seconds
        return max(0.0, self._timer.when() - asyncio.get_running_loop().time())

    def begin(self) -> None:
        """The worker is registered: its time runs."""
        if self.seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self.seconds, self._over)

    def _over(self) -> None:
        worker = self._worker
        if worker.status in (Status.running, Status.paused):
            logger.info("Worker at %s has reached the end of its lifetime of %.1f s", worker.address, self.seconds)
            worker.run_detached(self._leave())

    async def _leave(self) -> None:
        """Others may have been started with this one: each waits for its turn, and works on meanwhile."""
        worker = self._worker
        with contextlib.suppress(OSError, UnknownOperationError):
            await worker.scheduler.turn_to_leave(worker=worker.address, restart=self.restart)
        await worker.close_gracefully(reason="worker-lifetime-reached")

    async def end(self) -> None:
        """The worker closes."""
        if self._timer is not None:
            self._timer.cancel()
        if self.preloads is not None:
            await self.preloads.teardown()
