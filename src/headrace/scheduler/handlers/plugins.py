"""Plugins: of the scheduler, run here; of workers and nannies, kept here and given to each that comes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from headrace.messages.base import Payload
from headrace.protocol import dumps, unwrap
from headrace.scheduler.base import Operations, SchedulerBase, logger, opened
from headrace.scheduler.state.tasks import TaskState


def plugin_name(plugin: Any) -> str:
    """A plugin's own name, or one made from its class."""
    return str(getattr(plugin, "name", None) or f"{type(plugin).__name__}-{id(plugin):x}")


class PluginHandlers(SchedulerBase):
    """Registration of plugins."""

    broadcast: Callable[..., Any]

    def plugin_operations(self) -> Operations:
        return {
            "register_scheduler_plugin": self.register_scheduler_plugin,
            "unregister_scheduler_plugin": self.unregister_scheduler_plugin,
            "register_worker_plugin": self.register_worker_plugin,
            "unregister_worker_plugin": self.unregister_worker_plugin,
            "register_nanny_plugin": self.register_nanny_plugin,
            "unregister_nanny_plugin": self.unregister_nanny_plugin,
        }

    def add_plugin(self, plugin: Any, idempotent: bool = False, name: str | None = None, **kwargs: Any) -> None:
        """Add a scheduler plugin.

        Args:
            idempotent: leave one of the same name in place.

        Raises:
            ValueError: the name is taken.
        """
        name = name or plugin_name(plugin)
        if name in self.plugins:
            if idempotent:
                return
            raise ValueError(f"a scheduler plugin named {name!r} is there already; remove it first or name this one")
        self.plugins[name] = plugin
        self._observe()

    def remove_plugin(self, name: str | None = None) -> None:
        """Remove a scheduler plugin.

        Raises:
            ValueError: there is none of that name.
        """
        if name not in self.plugins:
            raise ValueError(f"there is no scheduler plugin named {name!r}; there are {sorted(self.plugins)}")
        del self.plugins[name]
        self._observe()

    def _observe(self) -> None:
        """Let the state call those plugins that watch transitions, and only then pay for it."""
        watching = [plugin for plugin in self.plugins.values() if hasattr(plugin, "transition")]

        def observe(task: TaskState, start: str, finish: str, now: float) -> None:
            for plugin in watching:
                try:
                    plugin.transition(task.key, start, finish, stimulus_id=self.state.stimulus)
                except Exception:
                    logger.exception("Plugin %r failed in transition", plugin)

        self.state.observers = (observe,) if watching else ()

    async def register_scheduler_plugin(
        self, plugin: Any, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, str]:
        """Add a plugin that a client sent, and start it."""
        instance = opened(plugin)
        name = name or plugin_name(instance)
        if name in self.plugins:
            if idempotent:
                return {"status": "OK"}
            await self.unregister_scheduler_plugin(name)
        start = getattr(instance, "start", None)
        if start is not None:
            result = start(self)
            if inspect.isawaitable(result):
                await result
        self.add_plugin(instance, name=name)
        return {"status": "OK"}

    async def unregister_scheduler_plugin(self, name: str) -> dict[str, str]:
        """Close and remove a plugin."""
        close = getattr(self.plugins.get(name), "close", None)
        self.remove_plugin(name)
        if close is not None:
            result = close()
            if inspect.isawaitable(result):
                await result
        return {"status": "OK"}

    async def register_worker_plugin(
        self, plugin: Any, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, Any]:
        """Give a plugin to every worker, now and when it comes; returns their answers by address."""
        pickled = _pickled(plugin)
        name = name or plugin_name(opened(plugin))
        if idempotent and name in self.worker_plugins:
            return {}
        self.worker_plugins[name] = pickled
        return dict(await self.broadcast({"op": "plugin_add", "plugin": pickled, "name": name}))

    async def unregister_worker_plugin(self, name: str) -> dict[str, Any]:
        """Take a plugin from every worker; returns their answers by address."""
        if name not in self.worker_plugins:
            raise ValueError(f"there is no worker plugin named {name!r}; there are {sorted(self.worker_plugins)}")
        del self.worker_plugins[name]
        return dict(await self.broadcast({"op": "plugin_remove", "name": name}))

    async def register_nanny_plugin(
        self, plugin: Any, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, Any]:
        """Give a plugin to every nanny, now and when it comes; returns their answers by address."""
        pickled = _pickled(plugin)
        name = name or plugin_name(opened(plugin))
        if idempotent and name in self.nanny_plugins:
            return {}
        self.nanny_plugins[name] = pickled
        return dict(await self.broadcast({"op": "plugin_add", "plugin": pickled, "name": name}, nanny=True))

    async def unregister_nanny_plugin(self, name: str) -> dict[str, Any]:
        """Take a plugin from every nanny; returns their answers by address."""
        if name not in self.nanny_plugins:
            raise ValueError(f"there is no nanny plugin named {name!r}; there are {sorted(self.nanny_plugins)}")
        del self.nanny_plugins[name]
        return dict(await self.broadcast({"op": "plugin_remove", "name": name}, nanny=True))


def _pickled(plugin: Any) -> Payload:
    """A plugin as workers take it: pickled once more, so that nothing on the way opens it."""
    value = getattr(plugin, "payload", None)
    if value is not None:
        return value
    value = unwrap(plugin)
    return value if isinstance(value, bytes) else dumps(value)
