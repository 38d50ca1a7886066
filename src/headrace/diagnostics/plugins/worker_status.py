"""A scheduler plugin that reports workers that come and go over a connection."""

from __future__ import annotations

from headrace.comm import Comm
from headrace.diagnostics.plugins.plugin_base import SchedulerPlugin
from headrace.exceptions import CommClosedError
from headrace.scheduler.shell import HasShell, Shell, shell_of

#: Bytes that may wait to be read by the other end.
MOST_UNSENT = 16 << 20


class WorkerStatusPlugin(SchedulerPlugin):
    """Tells the other end of a connection of each worker that comes and goes.

    Each message is a list of `["add", {"workers": {address: identity}}]` and `["remove", address]`.

    Args:
        scheduler: the scheduler of the workers.
        comm: the connection; the plugin leaves when it is closed.
    """

    def __init__(self, scheduler: HasShell | Shell, comm: Comm) -> None:
        self._shell = shell_of(scheduler)
        self.scheduler = self._shell.facade
        self.comm = comm
        self.name = f"worker-status-{id(comm):x}"

    def add_worker(self, scheduler: object, worker: str) -> None:
        """Tell of a worker that has come."""
        record = self._shell.core.workers.get(worker)
        if record is not None:
            self._tell(["add", {"workers": {worker: record.identity()}}])

    def remove_worker(self, scheduler: object, worker: str, *, stimulus_id: str = "", **kwargs: object) -> None:
        """Tell of a worker that has gone."""
        self._tell(["remove", worker])

    def _tell(self, message: list[object]) -> None:
        if self.comm.unsent > MOST_UNSENT:  # the other end does not read
            self.comm.abort()
        try:
            self.comm.send([message])
        except CommClosedError:
            self._shell.plugins.pop(self.name, None)

    def teardown(self) -> None:
        """Close the connection."""
        self.comm.abort()
