"""Watches how much memory a nanny's worker process takes, and ends it before the system does.

A worker near its limit may be too busy to answer, so that it is killed at once: the nanny starts another, and what the
worker held is computed again elsewhere.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from headrace import config
from headrace.machine import cpu_count, memory_fraction, parse_memory_limit, process_memory
from headrace.rpc import PeriodicCallback

if TYPE_CHECKING:
    from .server import NannyServer

logger = logging.getLogger("distributed.nanny")


class NannyMemoryManager:
    """The memory of a nanny's worker.

    Args:
        nanny: whose.
        memory_limit: as for Worker.
        memory_terminate_fraction: share of the limit above which the worker is ended; False for never, None for what
            is configured.
        memory_monitor_interval: seconds between two looks; None for what is configured.

    Attributes:
        memory_limit: in bytes; None for no limit.

    Raises:
        ValueError: a limit, fraction or interval makes no sense.
    """

    def __init__(
        self,
        nanny: NannyServer,
        memory_limit: str | float | None = "auto",
        *,
        memory_terminate_fraction: float | bool | None = None,
        memory_monitor_interval: float | str | None = None,
    ) -> None:
        self._nanny = nanny
        values = config.get("distributed.worker.memory")
        fraction = values["terminate"] if memory_terminate_fraction is None else memory_terminate_fraction
        interval = values["monitor-interval"] if memory_monitor_interval is None else memory_monitor_interval
        self.memory_terminate_fraction: float | bool = memory_fraction("terminate", fraction)
        self.memory_monitor_interval = config.parse_seconds(interval)
        self.memory_limit = parse_memory_limit(memory_limit, nanny.nthreads or cpu_count())

    def start(self) -> None:
        """Begin to look. On the nanny's loop, where its periodic callbacks end with it."""
        if self.memory_limit and self.memory_terminate_fraction:
            callback = PeriodicCallback(self.look, self.memory_monitor_interval * 1000)
            self._nanny.periodic_callbacks["memory_monitor"] = callback
            callback.start()

    def memory_monitor(self, nanny: object = None) -> None:
        """Look at the memory now; the documented name of `look`."""
        self.look()

    def look(self) -> None:
        """Kill the worker if it takes too much; the process's `exit_cause` says so."""
        process = self._nanny.process
        if process is None or not process.is_alive() or process.exit_cause is not None or not self.memory_limit:
            return
        pid = process.pid
        memory = process_memory(pid) if pid is not None else 0
        if memory <= self.memory_limit * self.memory_terminate_fraction:
            return
        process.exit_cause = (
            f"over {100 * self.memory_terminate_fraction:.0f} % of its memory limit: "
            f"the process took {memory / 2**20:.0f} MiB of {self.memory_limit / 2**20:.0f} MiB"
        )
        process.killed_for_memory = True
        logger.warning("Worker %s (pid %s) is %s; killing it", process.address, pid, process.exit_cause)
        process.kill_now()
