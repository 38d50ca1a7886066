"""Documented requests that look at workers and tasks from outside: benchmarks, readings, metadata of tasks."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from headrace.comm import Comm
from headrace.scheduler.base import Operations, SchedulerBase, logger

#: Where the plugins of this topic are; loaded by name because they stand above this layer.
_PLUGINS = "headrace.diagnostics.watching"


class WatchingHandlers(SchedulerBase):
    """Watching."""

    broadcast: Callable[..., Any]
    add_plugin: Callable[..., Any]
    remove_plugin: Callable[..., Any]
    register_nanny: Callable[[], dict[str, Any]]

    def watching_operations(self) -> Operations:
        return {
            "benchmark_hardware": self.benchmark_hardware,
            "get_worker_monitor_info": self.get_worker_monitor_info,
            "start_task_metadata": self.start_task_metadata,
            "stop_task_metadata": self.stop_task_metadata,
            "subscribe_worker_status": self.subscribe_worker_status,
            "add_nanny": self.add_nanny,
        }

    async def add_nanny(self, comm: Comm | None, address: str) -> dict[str, Any]:
        """A nanny starts: the plugins that it is to have before its worker does."""
        return self.register_nanny()

    async def benchmark_hardware(self) -> dict[str, dict[str, float]]:
        """How fast the workers' disks, memories and network are.

        Returns:
            {"disk", "memory" and "network": {size as text: bytes per second, on average over workers}}; the network
            is measured between pairs of workers.
        """
        addresses = list(self.workers)
        found: dict[str, dict[str, list[float]]] = {"disk": {}, "memory": {}, "network": {}}
        for name in ("disk", "memory"):
            answers = await self.broadcast({"op": f"benchmark_{name}"}, on_error="ignore")
            _collect(found[name], answers.values())
        for first, second in zip(addresses[::2], addresses[1::2], strict=False):
            answers = await self.broadcast({"op": "benchmark_network", "address": second}, [first], on_error="ignore")
            _collect(found["network"], answers.values())
        return {
            name: {size: sum(values) / len(values) for size, values in sizes.items()} for name, sizes in found.items()
        }

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

    def start_task_metadata(self, name: str | None = None) -> None:
        """Keep the metadata and last states of tasks from now on; `name` is for `stop_task_metadata`."""
        plugin = _plugin("CollectTaskMetaDataPlugin")(self, name or f"task-metadata-{uuid.uuid4()}")
        self.add_plugin(plugin, name=plugin.name)

    def stop_task_metadata(self, name: str | None = None) -> dict[str, Any]:
        """What was kept: `{"metadata": {key: …}, "state": {key: …}}`.

        Raises:
            ValueError: nothing was begun under that name, or, without a name, not exactly once.
        """
        kind = _plugin("CollectTaskMetaDataPlugin")
        found = [plugin for plugin in self.plugins.values() if isinstance(plugin, kind)]
        if name is not None:
            found = [plugin for plugin in found if plugin.name == name]
        if len(found) != 1:
            raise ValueError(
                f"start_task_metadata was called {len(found)} times for {name or 'no name in particular'!r}, not once"
            )
        (plugin,) = found
        self.remove_plugin(plugin.name)
        return {"metadata": plugin.metadata, "state": plugin.state}

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


def _collect(into: dict[str, list[float]], answers: Iterable[Mapping[str, float]]) -> None:
    for answer in answers:
        for size, speed in answer.items():
            into.setdefault(size, []).append(speed)


def heartbeat_interval(n: int) -> float:
    """Seconds between heartbeats that `n` workers should keep: longer for many, so that the scheduler keeps up."""
    if n <= 10:
        return 0.5
    if n < 50:
        return 1
    if n < 200:
        return 2
    return n / 200 + 1
