"""Plugins: of the scheduler, run here; of workers and nannies, kept here and given to each that comes.

What no plugin overrides is not called: without plugins, a task costs one look at an empty tuple.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

from headrace.comm import Comm
from headrace.common.hooks import hook_of
from headrace.common.keys import from_wire
from headrace.containment import log_raised
from headrace.exceptions import BadRequestError
from headrace.messages.base import NO_OPTIONS, Payload
from headrace.messages.client import SubmitGraph
from headrace.messages.worker import TaskFailed, TaskFinished
from headrace.protocol import dumps, unwrap
from headrace.scheduler.shell import Operations, SchedulerBase, logger
from headrace.scheduler.state.records.clients import ClientState
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState

TransitionWatcher: TypeAlias = Callable[[TaskState, str, str, float], None]
#: Annotations that are options of their own, by the name of the option.
_ANNOTATED = ("priority", "retries", "workers", "allow_other_workers", "resources")


def plugin_name(plugin: Any) -> str:
    """A plugin's own name, or one made from its class."""
    return str(getattr(plugin, "name", None) or f"{type(plugin).__name__}-{id(plugin):x}")


class PluginHandlers(SchedulerBase):
    """Registration of plugins, and the calls of their hooks."""

    broadcast: Callable[..., Any]
    transition_watchers: tuple[TransitionWatcher, ...] = ()

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
            raise BadRequestError(
                f"a scheduler plugin named {name!r} is there already; remove it first or name this one"
            )
        self.plugins[name] = plugin
        self._observe()

    def remove_plugin(self, name: str | None = None) -> None:
        """Remove a scheduler plugin.

        Raises:
            ValueError: there is none of that name.
        """
        if name not in self.plugins:
            raise BadRequestError(f"there is no scheduler plugin named {name!r}; there are {sorted(self.plugins)}")
        del self.plugins[name]
        self._observe()

    # Hooks that come with tasks

    def watch_transitions(self, watcher: TransitionWatcher) -> None:
        """Call a function with (record, start, finish, time) at every transition; cheaper than a plugin.

        It must not raise, and must not change anything of the state.
        """
        self.transition_watchers = (*self.transition_watchers, watcher)
        self._observe()

    def unwatch_transitions(self, watcher: TransitionWatcher) -> None:
        """Call it no more."""
        self.transition_watchers = tuple([each for each in self.transition_watchers if each != watcher])
        self._observe()

    def _observe(self) -> None:
        """Let the state call those plugins that watch transitions, and only then pay for it."""
        watching = [
            hook
            for plugin in self.plugins.values()
            if not _records(plugin) and (hook := hook_of(plugin, "transition")) is not None
        ]
        # A plugin of our own may take the record and the report as they are, which costs a tenth.
        recording = [plugin.record_run for plugin in self.plugins.values() if _records(plugin)]
        state = self.state

        def observe(task: TaskState, start: str, finish: str, now: float) -> None:
            known = _known_of(task, start, finish, state.report) if start == "processing" else {}
            key = from_wire(task.key)
            for transition in watching:
                try:
                    transition(key, start, finish, stimulus_id=state.stimulus, **known)
                except BaseException as raised:
                    log_raised(
                        logger, raised, "Plugin %r failed in transition", getattr(transition, "__self__", transition)
                    )

        def record(task: TaskState, start: str, finish: str, now: float) -> None:
            if start == "processing" and type(state.report) in (TaskFinished, TaskFailed):
                report = state.report
                if report.attempt == task.attempt and report.key == task.key:
                    for record_run in recording:
                        record_run(task, report, state.reporter)

        state.observers = (
            *self.transition_watchers,
            *([record] if recording else ()),
            *([observe] if watching else ()),
        )
        updating = [hook for plugin in self.plugins.values() if (hook := hook_of(plugin, "update_graph")) is not None]

        def observe_graph(client: ClientState, message: SubmitGraph) -> None:
            described = describe_graph(message, self.tasks)
            for update_graph in updating:
                try:
                    update_graph(self, client=client.client_key, stimulus_id=state.stimulus, **described)
                except BaseException as raised:
                    log_raised(
                        logger, raised, "Plugin %r failed in update_graph", getattr(update_graph, "__self__", None)
                    )

        state.graph_observer = observe_graph if updating else None

    def valid_downscaling(self, workers: Iterable[WorkerState]) -> list[WorkerState]:
        """Those of some workers that all plugins allow to be removed when the cluster shrinks."""
        left = list(workers)
        for name, plugin in list(self.plugins.items()):
            hook = hook_of(plugin, "valid_workers_downscaling")
            if hook is not None:
                try:
                    left = list(hook(self, left))
                except BaseException as raised:
                    log_raised(logger, raised, "Plugin %s failed in valid_workers_downscaling", name)
        return left

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


def describe_graph(message: SubmitGraph, tasks: Mapping[Any, TaskState]) -> dict[str, Any]:
    """What plugins are told of a graph, or a part of one: all its keys, those wanted, their priorities, annotations."""
    keys = [from_wire(key) for key in message.keys]
    priority: dict[Any, Any] = {}
    annotations: dict[str, dict[Any, Any]] = {}
    for position, (wire, key) in enumerate(zip(message.keys, keys, strict=True)):
        task = tasks.get(wire)
        if task is not None:
            priority[key] = task.priority
        if not message.options:
            continue
        options = message.options[message.option_of[position] if message.option_of else 0]
        for name in _ANNOTATED:
            value = getattr(options, name)
            if value != getattr(NO_OPTIONS, name):
                annotations.setdefault(name, {})[key] = value
        for name, value in options.annotations.items():
            annotations.setdefault(name, {})[key] = value
    wanted = set(keys if message.wanted is None else [keys[position] for position in message.wanted])
    return {"keys": wanted, "tasks": keys, "annotations": annotations, "priority": priority}


def _known_of(task: TaskState, start: str, finish: str, report: Any) -> dict[str, Any]:
    """What is known of a task that leaves its worker: where it ran, and how it went."""
    if finish == "memory":
        worker = next(iter(task.who_has), None)
    elif task.processing_on is not None:
        worker = task.processing_on
    else:
        worker = None
    known: dict[str, Any] = {}
    if worker is not None:
        known["worker"] = worker.address
    if type(report) is TaskFinished and report.key == task.key and finish == "memory":
        known |= {"nbytes": report.nbytes, "typename": report.type, "thread": report.thread, "status": "OK"}
        known["metadata"] = task.metadata
    elif type(report) is TaskFailed and report.key == task.key:
        known |= {"exception": report.exception, "exception_text": report.exception_text, "status": "error"}
        known |= {"traceback": report.traceback, "traceback_text": report.traceback_text}
        if worker is None and task.erred_on:
            known["worker"] = next(iter(task.erred_on))
    else:
        return known
    known["startstops"] = [
        {"action": action, "start": began, "stop": ended}
        for action, began, ended in [("compute", report.start, report.stop), *getattr(report, "startstops", ())]
    ]
    return known


def _records(plugin: Any) -> bool:
    """Whether a plugin wants the reports of tasks' runs themselves, instead of transitions."""
    return getattr(type(plugin), "records_runs", False) is True


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
