"""Scheduler plugins that watch for somebody: what becomes of tasks, and which workers come and go."""

from __future__ import annotations

from typing import Any

from headrace.comm import Comm
from headrace.common.keys import from_wire
from headrace.exceptions import CommClosedError

from .base import SchedulerPlugin


class CollectTaskMetaDataPlugin(SchedulerPlugin):
    """Keeps the metadata and the last state of tasks that are submitted and end while it is there.

    Args:
        scheduler: whose tasks.
        name: of this plugin.

    Attributes:
        metadata, state: by key.
    """

    def __init__(self, scheduler: Any, name: str) -> None:
        self.scheduler = scheduler
        self.name = name
        self.metadata: dict[Any, dict[str, Any]] = {}
        self.state: dict[Any, str] = {}
        self.keys: set[Any] = set()

    def update_graph(self, scheduler: Any, *, keys: Any, **kwargs: Any) -> None:
        """Note which tasks are submitted: others are of no interest."""
        self.keys.update(keys)

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Note tasks that have a result or have erred."""
        if finish in ("memory", "erred"):
            task = self.scheduler.tasks.get(key)
            if task is not None and (key in self.keys or from_wire(key) in self.keys):
                self.metadata[from_wire(key)] = dict(task.metadata)
                self.state[from_wire(key)] = finish


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
        try:
            self.comm.send(message)
        except CommClosedError:
            self.scheduler.plugins.pop(self.name, None)

    def teardown(self) -> None:
        """Close the connection."""
        self.comm.abort()
