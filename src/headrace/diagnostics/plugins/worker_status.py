"""A scheduler plugin that tells somebody which workers come and go."""

from __future__ import annotations

from typing import Any

from headrace.comm import Comm
from headrace.diagnostics.plugins.plugin_base import SchedulerPlugin
from headrace.exceptions import CommClosedError

#: Bytes that may wait to be read.
MOST_UNSENT = 16 << 20


class WorkerStatusPlugin(SchedulerPlugin):
    """Tells the other end of a connection of each worker that comes and goes.

    It sends `["add", {"workers": {address: identity}}]` and `["remove", address]`.

    Args:
        scheduler: whose workers.
        comm: the connection; the plugin leaves when it is closed.
    """

    def __init__(self, scheduler: Any, comm: Comm) -> None:
        self.scheduler = scheduler
        self.comm = comm
        self.name = f"worker-status-{id(comm):x}"

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Tell of a worker that has come."""
        record = self.scheduler.workers.get(worker)
        if record is not None:
            self._tell(["add", {"workers": {worker: record.identity()}}])

    def remove_worker(self, scheduler: Any, worker: str, *, stimulus_id: str = "", **kwargs: Any) -> None:
        """Tell of a worker that has gone."""
        self._tell(["remove", worker])

    def _tell(self, message: list[Any]) -> None:
        if self.comm.unsent > MOST_UNSENT:  # nobody reads it
            self.comm.abort()
        try:
            self.comm.send(message)
        except CommClosedError:
            self.scheduler.plugins.pop(self.name, None)

    def teardown(self) -> None:
        """Close the connection."""
        self.comm.abort()
