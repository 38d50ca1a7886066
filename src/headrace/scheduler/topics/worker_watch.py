"""Documented requests that look at workers from outside: their readings, and which come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from headrace.comm import Comm
from headrace.scheduler.base import SchedulerBase
from headrace.scheduler.shell import Operations, logger

#: Where the plugins of this topic are; loaded by name because they stand above this layer.
_PLUGINS = "headrace.diagnostics.plugins.worker_status"


class WatchingHandlers(SchedulerBase):
    """Watching."""

    broadcast: Callable[..., Any]
    add_plugin: Callable[..., Any]
    register_nanny: Callable[[], dict[str, Any]]

    def watching_operations(self) -> Operations:
        return {
            "get_worker_monitor_info": self.get_worker_monitor_info,
            "subscribe_worker_status": self.subscribe_worker_status,
            "add_nanny": self.add_nanny,
        }

    async def add_nanny(self, comm: Comm | None, address: str) -> dict[str, Any]:
        """A nanny starts: the plugins that it is to have before its worker does."""
        return self.register_nanny()

    async def get_worker_monitor_info(
        self, recent: bool = False, starts: Mapping[str, int] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Readings of the workers' processors and memory; see `Worker.get_monitor_info`.

        Args:
            starts: by address, the `count` of an earlier answer.
        """
        found = {}
        for address in list(self.workers):
            request = {"op": "monitor_info", "recent": recent, "start": (starts or {}).get(address, 0)}
            found.update(await self.broadcast(request, [address], on_error="ignore"))
        return found

    def subscribe_worker_status(self, comm: Comm) -> dict[str, Any]:
        """The workers now; of those that come and go later the other end of the comm is told (`WorkerStatusPlugin`)."""
        plugin = _plugin("WorkerStatusPlugin")(self, comm)
        self.add_plugin(plugin, name=plugin.name)
        return {"workers": {address: worker.identity() for address, worker in self.workers.items()}}

    def log_worker_event(self, worker: str, topic: str | Iterable[str], msg: Any) -> None:
        """Log an event of a worker."""
        if isinstance(msg, dict):
            msg = {**msg, "worker": worker}
        self.log_event(topic, msg)

    def handle_uncaught_error(self, **msg: Any) -> None:
        """Log that a worker failed, with what it says of it."""
        logger.error("A worker failed: %s", msg.get("exception_text") or msg.get("text") or msg)


def _plugin(name: str) -> Any:
    return getattr(import_module(_PLUGINS), name)


def heartbeat_interval(n: int) -> float:
    """Seconds between heartbeats that `n` workers should keep: longer for many, so that the scheduler keeps up."""
    if n <= 10:
        return 0.5
    if n < 50:
        return 1
    if n < 200:
        return 2
    return n / 200 + 1
