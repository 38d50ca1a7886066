"""The scheduler's plugins by name, and the core's observers that call those of their hooks which come with tasks.

A hook that no plugin overrides is not called: without plugins, a task costs one look at an empty tuple.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from headrace.common.hooks import hook_of
from headrace.common.keys import from_wire
from headrace.containment import log_raised
from headrace.exceptions import BadRequestError
from headrace.messages.client import SubmitGraph
from headrace.messages.worker import TaskFailed, TaskFinished

from .state.core import SchedulerCore
from .state.records.clients import ClientState
from .state.records.tasks import TaskState
from .state.records.workers import WorkerState

logger = logging.getLogger("distributed.scheduler")

TransitionWatcher: TypeAlias = Callable[[TaskState, str, str, float], None]


def plugin_name(plugin: object) -> str:
    """A plugin's own name, or one made from its class."""
    return str(getattr(plugin, "name", None) or f"{type(plugin).__name__}-{id(plugin):x}")


class PluginRegistry:
    """Scheduler plugins, and functions of ours that watch transitions.

    Args:
        facade: the scheduler object that plugins know.
        core: the state machine, whose observers are kept in step with the plugins.

    Attributes:
        plugins: by name.
    """

    def __init__(self, facade: object, core: SchedulerCore) -> None:
        self.plugins: dict[str, Any] = {}
        self._facade = facade
        self._core = core
        self._watchers: tuple[TransitionWatcher, ...] = ()

    def add(self, plugin: object, idempotent: bool = False, name: str | None = None) -> None:
        """Add a scheduler plugin; one of the same name is replaced, with a warning.

        Args:
            idempotent: leave one of the same name in place instead.
        """
        name = name or plugin_name(plugin)
        if name in self.plugins:
            if idempotent:
                return
            warnings.warn(
                f"a scheduler plugin named {name!r} was there already, and is replaced", UserWarning, stacklevel=3
            )
        self.plugins[name] = plugin
        self._observe()

    def remove(self, name: str | None = None) -> None:
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
        self._watchers = (*self._watchers, watcher)
        self._observe()

    def unwatch_transitions(self, watcher: TransitionWatcher) -> None:
        """Call it no more."""
        self._watchers = tuple([each for each in self._watchers if each != watcher])
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
        core = self._core

        def observe(task: TaskState, start: str, finish: str, now: float) -> None:
            known = _known_of(task, start, finish, core.report) if start == "processing" else {}
            key = from_wire(task.key)
            for transition in watching:
                try:
                    transition(key, start, finish, stimulus_id=core.stimulus, **known)
                except BaseException as raised:
                    log_raised(
                        logger, raised, "Plugin %r failed in transition", getattr(transition, "__self__", transition)
                    )

        def record(task: TaskState, start: str, finish: str, now: float) -> None:
            if start == "processing" and type(core.report) in (TaskFinished, TaskFailed):
                report = core.report
                if report.attempt == task.attempt and report.key == task.key:
                    for record_run in recording:
                        record_run(task, report, core.reporter)

        core.observers = (
            *self._watchers,
            *([record] if recording else ()),
            *([observe] if watching else ()),
        )
        updating = [hook for plugin in self.plugins.values() if (hook := hook_of(plugin, "update_graph")) is not None]

        def observe_graph(client: ClientState, message: SubmitGraph) -> None:
            described = describe_graph(message, core.tasks)
            for update_graph in updating:
                try:
                    update_graph(self._facade, client=client.client_key, stimulus_id=core.stimulus, **described)
                except BaseException as raised:
                    log_raised(
                        logger, raised, "Plugin %r failed in update_graph", getattr(update_graph, "__self__", None)
                    )

        core.graph_observer = observe_graph if updating else None

    def valid_downscaling(self, workers: Iterable[WorkerState]) -> list[WorkerState]:
        """Some workers, without those that a plugin does not allow to be removed when the cluster shrinks."""
        left = list(workers)
        for name, plugin in list(self.plugins.items()):
            hook = hook_of(plugin, "valid_workers_downscaling")
            if hook is not None:
                try:
                    left = list(hook(self._facade, left))
                except BaseException as raised:
                    log_raised(logger, raised, "Plugin %s failed in valid_workers_downscaling", name)
        return left


def describe_graph(message: SubmitGraph, tasks: Mapping[Any, TaskState]) -> dict[str, Any]:
    """A graph, or a part of one, as plugins see it: all its keys, those wanted, their priorities, annotations."""
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
        for name, value in options.as_annotations().items():
            annotations.setdefault(name, {})[key] = value
    wanted = set(keys if message.wanted is None else [keys[position] for position in message.wanted])
    return {"keys": wanted, "tasks": keys, "annotations": annotations, "priority": priority}


def _known_of(task: TaskState, start: str, finish: str, report: Any) -> dict[str, Any]:
    """Facts about a task that leaves its worker: where it ran, and how it went."""
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


def _records(plugin: object) -> bool:
    """Whether a plugin wants the reports of tasks' runs themselves, instead of transitions."""
    return getattr(type(plugin), "records_runs", False) is True
