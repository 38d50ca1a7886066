"""Plugins: of the scheduler, run here; of workers and nannies, kept here and given to each that comes.

What no plugin overrides is not called: without plugins, a task costs one look at an empty tuple.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from headrace.comm import Comm
from headrace.common.hooks import hook_of
from headrace.exceptions import BadRequestError
from headrace.messages.base import Payload
from headrace.protocol import dumps, unwrap
from headrace.scheduler.base import SchedulerBase
from headrace.scheduler.plugin_registry import TransitionWatcher, plugin_name
from headrace.scheduler.shell import Operations
from headrace.scheduler.state.records.workers import WorkerState


class PluginHandlers(SchedulerBase):
    """Registration of plugins, and the calls of their hooks."""

    broadcast: Callable[..., Any]

    def plugin_operations(self) -> Operations:
        return {
            "register_scheduler_plugin": self.register_scheduler_plugin,
            "unregister_scheduler_plugin": self.unregister_scheduler_plugin,
            "register_worker_plugin": self.register_worker_plugin,
            "unregister_worker_plugin": self.unregister_worker_plugin,
            "register_nanny_plugin": self.register_nanny_plugin,
            "unregister_nanny_plugin": self.unregister_nanny_plugin,
            "register_nanny": self.register_nanny,
        }

    def add_plugin(self, plugin: Any, idempotent: bool = False, name: str | None = None, **kwargs: Any) -> None:
        self.shell.plugin_registry.add(plugin, idempotent, name)

    def remove_plugin(self, name: str | None = None) -> None:
        self.shell.plugin_registry.remove(name)

    def watch_transitions(self, watcher: TransitionWatcher) -> None:
        self.shell.plugin_registry.watch_transitions(watcher)

    def unwatch_transitions(self, watcher: TransitionWatcher) -> None:
        self.shell.plugin_registry.unwatch_transitions(watcher)

    def valid_downscaling(self, workers: Iterable[WorkerState]) -> list[WorkerState]:
        return self.shell.plugin_registry.valid_downscaling(workers)

    # Registration

    async def register_scheduler_plugin(
        self, plugin: Any, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, str]:
        """Add a plugin that a client sent, and start it."""
        instance = self.open_sent(plugin)
        name = name or plugin_name(instance)
        if name in self.plugins:
            if idempotent or (idempotent is None and getattr(instance, "idempotent", False)):
                return {"status": "OK"}
            await self.unregister_scheduler_plugin(name)
        await _awaited(hook_of(instance, "start"), self)
        self.add_plugin(instance, name=name)
        return {"status": "OK"}

    async def unregister_scheduler_plugin(self, name: str) -> dict[str, str]:
        """Close and remove a plugin."""
        plugin = self.plugins.get(name)
        self.remove_plugin(name)
        await _awaited(hook_of(plugin, "close"))
        return {"status": "OK"}

    async def register_worker_plugin(
        self, comm: Comm | None, plugin: Any, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, Any]:
        """Give a plugin to every worker, now and when it comes; returns their answers by address."""
        pickled = _pickled(plugin)
        name = name or plugin_name(self.open_sent(plugin))
        if idempotent and name in self.worker_plugins:
            return {}
        self.worker_plugins[name] = pickled
        return dict(await self.broadcast({"op": "plugin_add", "plugin": pickled, "name": name}))

    async def unregister_worker_plugin(self, comm: Comm | None, name: str) -> dict[str, Any]:
        """Take a plugin from every worker; returns their answers by address."""
        if name not in self.worker_plugins:
            raise BadRequestError(f"there is no worker plugin named {name!r}; there are {sorted(self.worker_plugins)}")
        del self.worker_plugins[name]
        return dict(await self.broadcast({"op": "plugin_remove", "name": name}))

    async def register_nanny_plugin(
        self, comm: Comm | None, plugin: Any, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, Any]:
        """Give a plugin to every nanny, now and when it comes; returns their answers by the workers' addresses."""
        pickled = _pickled(plugin)
        name = name or plugin_name(self.open_sent(plugin))
        if idempotent and name in self.nanny_plugins:
            return {}
        self.nanny_plugins[name] = pickled
        return dict(await self.broadcast({"op": "plugin_add", "plugin": pickled, "name": name}, nanny=True))

    async def unregister_nanny_plugin(self, comm: Comm | None, name: str) -> dict[str, Any]:
        """Take a plugin from every nanny; returns their answers by the workers' addresses."""
        if name not in self.nanny_plugins:
            raise BadRequestError(f"there is no nanny plugin named {name!r}; there are {sorted(self.nanny_plugins)}")
        del self.nanny_plugins[name]
        return dict(await self.broadcast({"op": "plugin_remove", "name": name}, nanny=True))

    def register_nanny(self) -> dict[str, Any]:
        """A nanny starts: the plugins that it is to have before its worker does."""
        return {"status": "OK", "nanny-plugins": self.nanny_plugins}


async def _awaited(hook: Callable[..., Any] | None, *args: Any) -> None:
    if hook is not None:
        result: Awaitable[Any] | Any = hook(*args)
        if inspect.isawaitable(result):
            await result


def _pickled(plugin: Any) -> Payload:
    """A plugin as workers take it: pickled once more, so that nothing on the way opens it."""
    value = getattr(plugin, "payload", None)
    if value is not None:
        return value
    value = unwrap(plugin)
    return value if isinstance(value, bytes) else dumps(value)
