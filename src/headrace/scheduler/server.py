"""Scheduler: the shell around the state. It listens, passes messages to the state with the time, and sends its effects.

It never assigns a field of the state's records. Requests are answered by the mixins in `handlers`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import import_module
from typing import Any

from headrace import config
from headrace.comm.addressing import address_from_user_args, full_contact_address
from headrace.common.display.cluster_html import SHOWN, render_scheduler
from headrace.common.display.html import badge
from headrace.common.hooks import hook_of
from headrace.common.importing import BY_VALUE, import_late
from headrace.common.status import Status
from headrace.containment import log_raised
from headrace.messages.client import SchedulerClosing
from headrace.messages.worker import CloseWorker
from headrace.security import Security

from .connections.clients import ClientConnections
from .connections.fatal_results import DeathHandlers
from .connections.lifetime_departures import LeavingHandlers
from .connections.workers import WorkerConnections, killed_payload, left_payload
from .shell import logger
from .state.core import SchedulerCore
from .state.state_options import StateOptions
from .topics.cluster_requests import ClusterHandlers
from .topics.data_requests import DataHandlers
from .topics.documented_state import SchedulerState
from .topics.inspection import InspectHandlers
from .topics.lifecycle import LifeHandlers, actor_payload
from .topics.observation import LookHandlers
from .topics.plugins import PluginHandlers
from .topics.rebalancing import BalanceHandlers
from .topics.restarts import RestartHandlers
from .topics.scaling import ScalingHandlers
from .topics.worker_watch import WatchingHandlers

#: What every scheduler has beside its core: class by path, loaded by name because they stand above this layer.
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
    "stealing": "headrace.extensions.stealing.scheduler:WorkStealing",
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


class Scheduler(
    ClientConnections,
    WorkerConnections,
    DataHandlers,
    ClusterHandlers,
    BalanceHandlers,
    ScalingHandlers,
    InspectHandlers,
    LookHandlers,
    PluginHandlers,
    RestartHandlers,
    SchedulerState,
    LifeHandlers,
    DeathHandlers,
    LeavingHandlers,
    WatchingHandlers,
):
    """Dynamic distributed task scheduler.

    Await it, or use it in `async with`, to start it; `await scheduler.finished()` waits until it has closed.

    Args:
        host, port, protocol, interface: where to listen; port 0 takes any free one. `protocol` is "tcp", "tls" or
            "inproc".
        contact_address: the address that workers and clients are told, if not the one listened on;
            `distributed.scheduler.contact-address` by default.
        validate: check the state's invariants after every event (slow; for tests).
        allowed_failures: how many workers may die under a task before it errs.
        worker_ttl: seconds (or text) of silence after which a worker is dropped, and restarted by its nanny if it has
            one; `distributed.scheduler.worker-ttl` by default, 0 for never.
        scheduler_file: where to write how to reach this scheduler, as JSON; removed when it closes.
        idle_timeout: seconds, or text such as "1 hour", without work after which this closes; None for never.
        preload, preload_argv: code to run as this starts and ends (see `headrace.preloading`).
        security: certificates for TLS.
        plugins: scheduler plugins to start with.
        blocked_handlers: operations that are refused, whoever asks; by default those of the configuration.
        extensions: {name: class}; each is made with the scheduler as its argument. By default those in `EXTENSIONS`.

    Raises:
        OSError: when started, if the address cannot be had.
        TypeError: a keyword is unknown.
    """

    def __init__(
        self,
        services: Any = None,
        service_kwargs: Any = None,
        allowed_failures: int | None = None,
        extensions: dict[str, Any] | None = None,
        validate: bool | None = None,
        scheduler_file: str | None = None,
        security: Security | dict[str, Any] | None = None,
        worker_ttl: Any = None,
        idle_timeout: Any = None,
        interface: str | None = None,
        host: str | None = None,
        port: int = 0,
        protocol: str | None = None,
        dashboard_address: Any = None,
        dashboard: bool | None = None,
        http_prefix: str | None = "/",
        preload: Any = None,
        preload_argv: Any = (),
        plugins: Iterable[Any] = (),
        contact_address: str | None = None,
        transition_counter_max: Any = False,
        jupyter: bool = False,
        loop: Any = None,
        delete_interval: Any = "500ms",
        synchronize_worker_interval: Any = "60s",
        blocked_handlers: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            raise TypeError(f"Scheduler does not know the keyword(s) {', '.join(sorted(kwargs))}")
        super().__init__(SchedulerCore(state_options(allowed_failures, validate)), security)
        self.name = self.id
        self.started = 0.0
        self.service_specs, self.service_kwargs = dict(services or {}), dict(service_kwargs or {})
        self.blocked_handlers = blocked_handlers
        self.set_life(scheduler_file, idle_timeout, preload, preload_argv)
        self.state.options = replace(
            self.state.options, unrunnable_payload=self.unrunnable_payload, actor_payload=actor_payload
        )
        self.limit_transitions(transition_counter_max)
        self.contact_address = contact_address or config.get("distributed.scheduler.contact-address", None)
        self._start_plugins = list(plugins)
        self._listen: dict[str, Any] = {"host": host, "port": port, "protocol": protocol, "interface": interface}
        self.server.handlers.update(
            {
                **self.data_operations(),
                **self.cluster_operations(),
                **self.balance_operations(),
                **self.scaling_operations(),
                **self.inspect_operations(),
                **self.look_operations(),
                **self.plugin_operations(),
                **self.life_operations(),
                **self.restart_operations(),
                **self.watching_operations(),
                **self.death_operations(),
                **self.leaving_operations(),
                "terminate": self._terminate,
            }
        )
        self.prepare_clients()
        self.prepare_workers(worker_ttl)
        self.server.takeovers["feed"] = self.feed
        chosen = {name: _load(path) for name, path in EXTENSIONS.items()} if extensions is None else extensions
        for name, make in chosen.items():
            self.extensions[name] = make(self)

    def __repr__(self) -> str:
        where = self.server.address if self.server.listeners else self.status.name
        return (
            f"<Scheduler {where!r}, workers: {len(self.workers)}, cores: {self.total_nthreads}, tasks: {self.n_tasks}>"
        )

    def _repr_html_(self) -> str:
        info = self.identity(SHOWN)
        more = {"Tasks": f"{self.n_tasks:,}", "Status": badge(self.status.name)}
        return render_scheduler(info, time.time(), more=more)

    # Life

    async def _start(self) -> None:
        """Listen, and start plugins."""
        self.started = time.time()
        if "cloudpickle" in sys.modules:
            import_late(BY_VALUE)
        await self.server.listen(self._listen_address())
        if self.contact_address:
            self.contact_address = full_contact_address(self.contact_address, self.server.address)
        self.start_services(self.default_ip)
        for plugin in self._start_plugins:
            await self.register_scheduler_plugin(plugin, getattr(plugin, "name", None))
        self.status = Status.running
        self.watch_workers()
        self.periodic_callbacks["reevaluate-occupancy"].start()
        for extension in self.extensions.values():
            if hasattr(extension, "scheduler_started"):
                extension.scheduler_started()
        await self.begin_life()
        logger.info("Scheduler at: %s", self.address)

    def _listen_address(self) -> str:
        return address_from_user_args(security=self.security, **self._listen)

    async def close(self, timeout: float | None = None, reason: str = "unknown", **options: Any) -> str:
        """Close; waits for a close that is under way. Returns "OK".

        Args:
            timeout: seconds to wait for requests under way.
            options: `fast` and `close_workers` are accepted: closing is fast, and workers close as well.
        """
        return await self._shut(reason, {} if timeout is None else {"timeout": timeout})

    async def _close(self, reason: str = "", timeout: float | None = None, **_: Any) -> None:
        """Tell clients and workers, and stop."""
        if timeout is not None:
            self.server.timeout = timeout
        logger.info("Closing scheduler: %s", reason)
        self.call_extensions("scheduler_closing")
        for plugin in list(self.plugins.values()):
            await _call(plugin, "before_close")
        self.forget_visits()
        for extension in self.extensions.values():
            if hasattr(extension, "scheduler_closing"):
                extension.scheduler_closing()
        for stream in self.client_comms.values():
            stream.send(SchedulerClosing(reason))
        for stream in self.stream_comms.values():
            stream.send(CloseWorker(f"the scheduler closes: {reason}"))
        streams = [*self.client_comms.values(), *self.stream_comms.values()]
        self.client_comms.clear()
        self.stream_comms.clear()
        await asyncio.gather(*[stream.close() for stream in streams], return_exceptions=True)
        for plugin in list(self.plugins.values()):
            await _call(plugin, "close")
        self.end_watching()
        self.delay_timer.cancel()
        self.departed.cancel()
        await self.end_life()

    def _terminate(self, reason: str = "asked to terminate") -> dict[str, str]:
        self.run_detached(self.close(reason=reason))
        return {"status": "OK"}

    @property
    def address(self) -> str:
        """Where workers and clients reach this scheduler."""
        return self.contact_address or self.server.address

    # Messages

    def worker_send(self, worker: str, msg: Any) -> None:
        """Send a stream message to a worker; one that has just left is passed over."""
        stream = self.stream_comms.get(worker)
        if stream is not None:
            stream.send(msg)

    def client_send(self, client: str, msg: Any) -> None:
        """Send a stream message to a client; one that has just left is passed over."""
        stream = self.client_comms.get(client)
        if stream is not None:
            stream.send(msg)


def _load(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]


async def _call(plugin: Any, hook: str) -> None:
    function = hook_of(plugin, hook)
    if function is None:
        return
    try:
        result = function()
        if asyncio.iscoroutine(result):
            await result
    except BaseException as raised:
        log_raised(logger, raised, "Plugin %r failed in %s", plugin, hook, awaited=True)
