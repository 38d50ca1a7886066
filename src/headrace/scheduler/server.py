"""SchedulerServer: builds the core, the shell and the parts of a scheduler; starts them and ends them.

It answers nothing itself. Users make it as `headrace.Scheduler`, which adds the documented members.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any, ClassVar

from headrace import config
from headrace.comm.addressing import addresses_from_user_args, full_contact_address
from headrace.common.hooks import hook_of
from headrace.common.importing import BY_VALUE, import_late
from headrace.common.status import Status
from headrace.containment import log_raised
from headrace.messages.client import SchedulerClosing
from headrace.messages.worker import CloseWorker
from headrace.rpc.server import Operation
from headrace.rpc.server_life import Node
from headrace.security import Security

from .connections.verdicts import killed_payload, left_payload
from .parts import SchedulerParts
from .shell import Shell, logger
from .state.core import SchedulerCore
from .state.state_options import StateOptions
from .topics.lifecycle import actor_payload, too_large_payload

#: Where a scheduler serves HTTP unless told otherwise.
DASHBOARD_PORT = 8787

#: The extensions of every scheduler, by name: the path of the class, since they stand above this layer.
EXTENSIONS = {
    "semaphores": "headrace.extensions.semaphores.scheduler:SemaphoreExtension",
    "multi_locks": "headrace.extensions.multi_locks.scheduler:MultiLockExtension",
    "events": "headrace.extensions.events.scheduler:EventExtension",
    "queues": "headrace.extensions.queues.scheduler:QueueExtension",
    "variables": "headrace.extensions.variables.scheduler:VariableExtension",
    "publish": "headrace.extensions.publish.scheduler:PublishExtension",
    "replay-tasks": "headrace.extensions.replay.scheduler:ReplayTaskScheduler",
    "spans": "headrace.extensions.spans.scheduler:SpansSchedulerExtension",
    "memory_sampler": "headrace.diagnostics.memory_sampler:MemorySamplerExtension",
    "stealing": "headrace.extensions.stealing.scheduler:StealingExtension",
    "amm": "headrace.extensions.memory_manager.scheduler:ActiveMemoryManagerExtension",
    "progress": "headrace.diagnostics.progress.watch:ProgressExtension",
}


def state_options(allowed_failures: int | None, validate: bool | None) -> StateOptions:
    """The state's settings from the configuration and the constructor's keywords."""
    saturation = config.get("distributed.scheduler.worker-saturation", 1.1)
    durations = config.get("distributed.scheduler.default-task-durations", {})
    chosen = config.get("distributed.scheduler.allowed-failures", 3) if allowed_failures is None else allowed_failures
    return StateOptions(
        validate=config.truth("distributed.scheduler.validate") if validate is None else bool(validate),
        allowed_failures=int(chosen),
        saturation=float("inf") if saturation == "inf" else float(saturation),
        bandwidth=float(config.parse_bytes(config.get("distributed.scheduler.bandwidth", 100_000_000))),
        unknown_duration=config.parse_seconds(config.get("distributed.scheduler.unknown-task-duration", "500ms")),
        default_durations={prefix: config.parse_seconds(value) for prefix, value in durations.items()},
        killed_payload=killed_payload,
        left_payload=left_payload,
        rootish_groups=float(config.get("distributed.scheduler.rootish-taskgroup", 5)),
        rootish_tasks=float(config.get("distributed.scheduler.rootish-taskgroup-dependencies", 5)),
        default_nbytes=config.parse_bytes(config.get("distributed.scheduler.default-data-size", "1kiB")),
        computations_kept=int(config.get("distributed.diagnostics.computations.max-history", 100)),
        erred_kept=int(config.get("distributed.diagnostics.erred-tasks.max-history", 100)),
        log_length=int(config.get("distributed.admin.low-level-log-length", 100_000)),
    )


class SchedulerServer(Node):
    """A scheduler: one core, the shell around it, and the parts that answer requests.

    Args:
        listen: keywords of `addresses_from_user_args`: where to listen.
        contact_address: the address that workers and clients are told, if not the one listened on.
        extensions: {name: class}, each made with this object; by default those in `EXTENSIONS`, made with the shell.
        allowed_failures, validate, worker_ttl, scheduler_file, idle_timeout, preload, preload_argv, security, plugins,
            blocked_handlers, dashboard_address, dashboard, http_prefix: see `headrace.Scheduler`.
    """

    #: The extensions that a scheduler has by default; the public class has documented classes for some of them.
    extension_paths: ClassVar[Mapping[str, str]] = EXTENSIONS

    def __init__(
        self,
        *,
        listen: Mapping[str, Any],
        contact_address: str | None = None,
        allowed_failures: int | None = None,
        extensions: Mapping[str, Callable[..., object]] | None = None,
        validate: bool | None = None,
        scheduler_file: str | None = None,
        security: Security | Mapping[str, Any] | None = None,
        worker_ttl: str | float | None = None,
        idle_timeout: object = None,
        preload: str | Iterable[str] | None = None,
        preload_argv: Iterable[Any] | None = (),
        plugins: Iterable[object] = (),
        blocked_handlers: list[str] | None = None,
        dashboard_address: object = None,
        dashboard: bool | None = None,
        http_prefix: str | None = "/",
    ) -> None:
        super().__init__("Scheduler", {}, security, "distributed.scheduler", deserialize=False)
        self.blocked_handlers = blocked_handlers
        self.contact_address = contact_address or config.get("distributed.scheduler.contact-address", None)
        self.core = SchedulerCore(state_options(allowed_failures, validate))
        self.shell = shell = Shell(self, self.core)
        self._start_plugins = list(plugins)
        self._listen = dict(listen)
        pages = dashboard_address is not None if dashboard is None else bool(dashboard)
        self._http: dict[str, Any] = {"address": dashboard_address, "pages": pages, "prefix": http_prefix}
        self.parts = SchedulerParts(
            shell,
            worker_ttl=worker_ttl,
            scheduler_file=scheduler_file,
            idle_timeout=idle_timeout,
            preload=preload,
            preload_argv=preload_argv,
        )
        self.core.options = replace(
            self.core.options,
            unrunnable_payload=self.parts.lifecycle.unrunnable_payload,
            actor_payload=actor_payload,
            too_large_payload=too_large_payload,
        )
        self._prepare_parts()
        for topic in self.parts.answering():
            shell.add_operations(type(topic).__name__, topic.operations())
        shell.add_operations(
            "SchedulerServer",
            {
                "echo": Operation(self.echo),
                "get_logs": Operation(self.get_logs),
                "logs": Operation(self.get_logs, repeatable=True),
                "versions": Operation(self.versions, repeatable=True),
            },
        )
        if extensions is None:
            shell.extensions.update({name: _load(path)(shell) for name, path in self.extension_paths.items()})
        else:
            for name, make in extensions.items():
                shell.extensions[name] = make(self)

    def _prepare_parts(self) -> None:
        """The parts are there, and have not registered their operations: the public class may put in its own."""

    # Life

    def _block_operations(self) -> None:
        super()._block_operations()
        self.shell.refuse_pickles()

    async def _prepare(self) -> None:
        await self.parts.lifecycle.preloads.load()

    async def _start(self) -> None:
        """Listen, and start plugins."""
        self.shell.started = time.time()
        if "cloudpickle" in sys.modules:
            import_late(BY_VALUE)
        await self._open()
        for plugin in self._start_plugins:
            await self.parts.plugin_requests.register_scheduler_plugin(plugin, getattr(plugin, "name", None))
        self.status = Status.running
        self.parts.silence.start()
        self.parts.rebalancing.start()
        for extension in self.shell.extensions.values():
            if hasattr(extension, "scheduler_started"):
                extension.scheduler_started()
        await self.parts.lifecycle.begin_life()
        logger.info("Scheduler at: %s", self.address)
        if self.http_server is not None:
            for line in self.http_server.announcements:
                logger.info("%s", line)
            self.http_server.announce_login()

    async def _open(self) -> None:
        """Be reachable from now on."""
        for address in addresses_from_user_args(security=self.security, **self._listen):
            await self.server.listen(address)
        if self.contact_address:
            self.contact_address = full_contact_address(self.contact_address, self.server.address)
        self._open_http(**self._http, default_port=DASHBOARD_PORT)

    async def close(self, timeout: float | None = None, reason: str = "unknown", **options: object) -> str:
        """Close; waits for a close that is under way. Returns "OK".

        Args:
            timeout: seconds to wait for requests under way.
            options: `fast` and `close_workers` are accepted: closing is fast, and workers close as well.
        """
        return await self._shut(reason, {} if timeout is None else {"timeout": timeout})

    async def _close(self, reason: str = "", timeout: float | None = None, **_: object) -> None:
        """Tell clients and workers, and stop."""
        if timeout is not None:
            self.server.timeout = timeout
        shell = self.shell
        logger.info("Closing scheduler: %s", reason)
        for plugin in list(shell.plugins.values()):
            await _call(plugin, "before_close")
        self.parts.client_connections.forget_visits()
        shell.call_extensions("scheduler_closing")
        for stream in shell.client_streams.values():
            stream.send(SchedulerClosing(reason))
        for stream in shell.worker_streams.values():
            stream.send(CloseWorker(f"the scheduler closes: {reason}"))
        streams = [*shell.client_streams.values(), *shell.worker_streams.values()]
        shell.client_streams.clear()
        shell.worker_streams.clear()
        await asyncio.gather(*[stream.close() for stream in streams], return_exceptions=True)
        for plugin in list(shell.plugins.values()):
            await _call(plugin, "close")
        await self._tell_plugins_who_is_gone()
        self.parts.profiles.end_watching()
        shell.delay_timer.cancel()
        shell.departed.cancel()
        await self.parts.lifecycle.end_life()

    async def _tell_plugins_who_is_gone(self) -> None:
        """Call the plugins' hooks for the workers and clients that were there when the scheduler closed.

        The records stay: nobody is left for whom work would be placed anew.
        """
        shell, told = self.shell, []
        stimulus_id = f"scheduler-close-{time.time()}"
        for address in self.core.workers:
            told += shell.notify_plugins(
                "remove_worker", scheduler=shell.facade, worker=address, stimulus_id=stimulus_id
            )
        for client in self.core.clients:
            told += shell.notify_plugins("remove_client", scheduler=shell.facade, client=client)
        if told:
            await asyncio.wait(told)

    @property
    def address(self) -> str:
        """The address at which workers and clients reach this scheduler."""
        return self.contact_address or self.server.address


def _load(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]


async def _call(plugin: object, hook: str) -> None:
    function = hook_of(plugin, hook)
    if function is None:
        return
    try:
        result = function()
        if asyncio.iscoroutine(result):
            await result
    except BaseException as raised:
        log_raised(logger, raised, "Plugin %r failed in %s", plugin, hook, awaited=True)
