"""Plugins: of the scheduler, run here; of workers and nannies, kept here and given to each that comes.

What no plugin overrides is not called: without plugins, a task costs one look at an empty tuple.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.comm import Comm
from headrace.common.hooks import hook_of
from headrace.exceptions import BadRequestError
from headrace.messages.base import Payload
from headrace.protocol import dumps, unwrap
from headrace.rpc.server import Operation
from headrace.scheduler.plugin_registry import plugin_name
from headrace.scheduler.shell import Shell
from headrace.scheduler.topics.cluster_requests import ClusterRequests


class PluginRequests:
    """Registration of plugins by clients.

    Args:
        cluster: passes plugins on to workers and nannies.
    """

    def __init__(self, shell: Shell, cluster: ClusterRequests) -> None:
        self.shell = shell
        self.cluster = cluster

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "register_scheduler_plugin": Operation(self.register_scheduler_plugin),
            "unregister_scheduler_plugin": Operation(self.unregister_scheduler_plugin),
            "register_worker_plugin": Operation(self.register_worker_plugin, takes_comm=True),
            "unregister_worker_plugin": Operation(self.unregister_worker_plugin, takes_comm=True),
            "register_nanny_plugin": Operation(self.register_nanny_plugin, takes_comm=True),
            "unregister_nanny_plugin": Operation(self.unregister_nanny_plugin, takes_comm=True),
            "register_nanny": Operation(self.register_nanny),
        }

    async def register_scheduler_plugin(
        self, plugin: object, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, str]:
        """Add a plugin that a client sent, and start it."""
        instance = self.shell.open_sent(plugin)
        name = name or plugin_name(instance)
        keeps = idempotent or (idempotent is None and getattr(instance, "idempotent", False))
        if keeps and name in self.shell.plugins:
            return {"status": "OK"}
        await _awaited(hook_of(instance, "start"), self.shell.facade)
        before = self.shell.plugins.get(name)
        self.shell.plugin_registry.add(instance, name=name)
        await _awaited(hook_of(before, "close"))
        return {"status": "OK"}

    async def unregister_scheduler_plugin(self, name: str) -> dict[str, str]:
        """Close and remove a plugin."""
        plugin = self.shell.plugins.get(name)
        self.shell.plugin_registry.remove(name)
        await _awaited(hook_of(plugin, "close"))
        return {"status": "OK"}

    async def register_worker_plugin(
        self, comm: Comm | None, plugin: object, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, Any]:
        """Give a plugin to every worker, now and when it comes; returns their answers by address."""
        pickled = _pickled(plugin)
        name = name or plugin_name(self.shell.open_sent(plugin))
        if idempotent and name in self.shell.worker_plugins:
            return {}
        self.shell.worker_plugins[name] = pickled
        return dict(await self.cluster.broadcast({"op": "plugin_add", "plugin": pickled, "name": name}))

    async def unregister_worker_plugin(self, comm: Comm | None, name: str) -> dict[str, Any]:
        """Take a plugin from every worker; returns their answers by address."""
        if name not in self.shell.worker_plugins:
            raise BadRequestError(
                f"there is no worker plugin named {name!r}; there are {sorted(self.shell.worker_plugins)}"
            )
        del self.shell.worker_plugins[name]
        return dict(await self.cluster.broadcast({"op": "plugin_remove", "name": name}))

    async def register_nanny_plugin(
        self, comm: Comm | None, plugin: object, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, Any]:
        """Give a plugin to every nanny, now and when it comes; returns their answers by the workers' addresses."""
        pickled = _pickled(plugin)
        name = name or plugin_name(self.shell.open_sent(plugin))
        if idempotent and name in self.shell.nanny_plugins:
            return {}
        self.shell.nanny_plugins[name] = pickled
        return dict(await self.cluster.broadcast({"op": "plugin_add", "plugin": pickled, "name": name}, nanny=True))

    async def unregister_nanny_plugin(self, comm: Comm | None, name: str) -> dict[str, Any]:
        """Take a plugin from every nanny; returns their answers by the workers' addresses."""
        if name not in self.shell.nanny_plugins:
            raise BadRequestError(
                f"there is no nanny plugin named {name!r}; there are {sorted(self.shell.nanny_plugins)}"
            )
        del self.shell.nanny_plugins[name]
        return dict(await self.cluster.broadcast({"op": "plugin_remove", "name": name}, nanny=True))

    def register_nanny(self) -> dict[str, Any]:
        """A nanny starts: the plugins that it is to have before its worker does."""
        return {"status": "OK", "nanny-plugins": self.shell.nanny_plugins}


async def _awaited(hook: Callable[..., Any] | None, *args: object) -> None:
    if hook is not None:
        result: Awaitable[Any] | Any = hook(*args)
        if inspect.isawaitable(result):
            await result


def _pickled(plugin: object) -> Payload:
    """A plugin as workers take it: pickled once more, so that nothing on the way opens it."""
    value = getattr(plugin, "payload", None)
    if value is not None:
        return value
    value = unwrap(plugin)
    return value if isinstance(value, bytes) else dumps(value)
