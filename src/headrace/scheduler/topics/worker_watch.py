"""Documented requests that look at workers from outside: their readings, and which come and go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from headrace.comm import Comm
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell, logger
from headrace.scheduler.topics.cluster_requests import ClusterRequests
from headrace.scheduler.topics.plugins import PluginRequests

#: Where the plugins of this topic are; loaded by name because they stand above this layer.
_PLUGINS = "headrace.diagnostics.plugins.worker_status"


class WorkerWatch:
    """Readings of workers, and notice of those that come and go.

    Args:
        cluster: asks the workers.
        plugins: has the plugins that nannies are given.
    """

    def __init__(self, shell: Shell, cluster: ClusterRequests, plugins: PluginRequests) -> None:
        self.shell = shell
        self.core = shell.core
        self.cluster = cluster
        self.plugins = plugins

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "get_worker_monitor_info": Operation(self.get_worker_monitor_info),
            "subscribe_worker_status": Operation(self.subscribe_worker_status, takes_comm=True),
            "add_nanny": Operation(self.add_nanny, takes_comm=True),
        }

    async def add_nanny(self, comm: Comm | None, address: str) -> dict[str, Any]:
        """A nanny starts: the plugins that it is to have before its worker does."""
        return self.plugins.register_nanny()

    async def get_worker_monitor_info(
        self, recent: bool = False, starts: Mapping[str, int] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Readings of the workers' processors and memory; see `Worker.get_monitor_info`.

        Args:
            starts: by address, the `count` of an earlier answer.
        """
        found = {}
        for address in list(self.core.workers):
            request = {"op": "monitor_info", "recent": recent, "start": (starts or {}).get(address, 0)}
            found.update(await self.cluster.broadcast(request, [address], on_error="ignore"))
        return found

    def subscribe_worker_status(self, comm: Comm) -> dict[str, Any]:
        """The scheduler's `identity`; of workers that come and go later the comm's other end is told by a plugin."""
        plugin = _plugin("WorkerStatusPlugin")(self.shell.facade, comm)
        self.shell.plugin_registry.add(plugin, name=plugin.name)
        return self.cluster.identity()

    def log_worker_event(self, worker: str, topic: str | Iterable[str], msg: object) -> None:
        """Log an event of a worker."""
        if isinstance(msg, dict):
            msg = {**msg, "worker": worker}
        self.shell.log_event(topic, msg)

    def handle_uncaught_error(self, /, **msg: object) -> None:
        """Log that a worker failed, with what it says of it."""
        logger.error("A worker failed: %s", msg.get("exception_text") or msg.get("text") or msg)


def _plugin(name: str) -> Any:
    return getattr(import_module(_PLUGINS), name)
