"""A worker plugin that kills workers at random, to see what a cluster and a computation make of it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
from typing import TYPE_CHECKING

from headrace.config import parse_seconds
from headrace.diagnostics.plugins.plugin_base import WorkerPlugin

if TYPE_CHECKING:
    from headrace import Worker

MODES = ("sys.exit", "graceful", "segfault")


class KillWorker(WorkerPlugin):
    """Kills each worker after a random time; without a nanny it is not replaced.

    Args:
        delay: seconds, or text, that a worker lives on average; its death is equally likely at any moment.
        mode: "sys.exit" (the process exits at once, with code 0), "graceful" (the worker closes, and its nanny starts
            another) or "segfault".

    Raises:
        ValueError: the mode is none of these, or the delay is not positive.
    """

    name = "kill-worker"

    def __init__(self, delay: str | float = "100 s", mode: str = "sys.exit") -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, not {mode!r}")
        self.delay = parse_seconds(delay)
        if self.delay <= 0:
            raise ValueError(f"delay must be positive, not {delay!r}")
        self.mode = mode
        self._worker: Worker | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[str] | None = None

    async def setup(self, worker: Worker) -> None:
        """Begin to wait."""
        self._worker = worker
        kill = {"sys.exit": self.sys_exit, "graceful": self.graceful, "segfault": self.segfault}[self.mode]
        self._timer = asyncio.get_running_loop().call_later(random.expovariate(1 / self.delay), kill)

    def teardown(self, worker: Worker) -> None:
        """Let the worker live."""
        if self._timer is not None:
            self._timer.cancel()

    def graceful(self) -> asyncio.Future[str]:
        """Close the worker; its nanny, if it has one, starts another. Returns what may be awaited for the end."""
        assert self._worker is not None
        self._closing = asyncio.ensure_future(self._worker.close(nanny=False, executor_wait=False, reason="chaos"))
        return self._closing

    def sys_exit(self) -> None:
        """End the process at once."""
        os._exit(0)

    def segfault(self) -> None:
        """End the process by a bad access to memory."""
        ctypes.string_at(0)
