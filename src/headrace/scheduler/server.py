"""Scheduler: the shell around the state. It listens, passes messages to the state with the time, and sends its effects.

It never assigns a field of the state's records. Requests are answered by the mixins in `handlers`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import import_module
from typing import Any

from headrace import config
from headrace.comm import Comm
from headrace.common.hooks import hook_of
from headrace.common.keys import Key, from_wire
from headrace.common.status import Status
from headrace.exceptions import KilledWorker
from headrace.messages import FromClient, FromWorker
from headrace.messages.base import Payload
from headrace.messages.client import (
    CancelKeys,
    ClientEvent,
    ClientHeartbeat,
    CloseClient,
    DesireKeys,
    GraphRefused,
    ReleaseKeys,
    SchedulerClosing,
    SubmitGraph,
)
from headrace.messages.worker import CloseWorker, WorkerEvent, WorkerHeartbeat, WorkerStatus
from headrace.protocol import dumps
from headrace.rpc import Stream
from headrace.security import Security

from .base import SLICE_SECONDS, logger
from .handlers.balance import BalanceHandlers
from .handlers.cluster import ClusterHandlers
from .handlers.data import DataHandlers
from .handlers.inspect import InspectHandlers
from .handlers.life import LifeHandlers, actor_payload
from .handlers.plugins import PluginHandlers
from .handlers.scaling import ScalingHandlers
from .state.clients import ClientState
from .state.options import StateOptions
from .state.state import SchedulerState
from .state.workers import WorkerState

#: What every scheduler has beside its core: class by path, loaded by name because they stand above this layer.
EXTENSIONS = {
    "locks": "headrace.extensions.locks.scheduler:LockExtension",
    "stealing": "headrace.extensions.stealing.scheduler:WorkStealing",
    "amm": "headrace.extensions.memory_manager.scheduler:ActiveMemoryManagerExtension",
}
#: What tasks print and warn of appears in the terminals of all clients.
TERMINAL_TOPICS = ("print", "warn")
#: Seconds between a worker's heartbeats.
HEARTBEAT_SECONDS = 0.5


def state_options(allowed_failures: int | None, validate: bool | None) -> StateOptions:
    """The state's settings from the configuration and the constructor's keywords."""
    saturation = config.get("distributed.scheduler.worker-saturation", 1.1)
    durations = config.get("distributed.scheduler.default-task-durations", {})
    chosen = config.get("distributed.scheduler.allowed-failures", 3) if allowed_failures is None else allowed_failures
    return StateOptions(
        validate=bool(config.get("distributed.scheduler.validate", False) if validate is None else validate),
        allowed_failures=int(chosen),
        saturation=float("inf") if saturation == "inf" else float(saturation),
        bandwidth=float(config.parse_bytes(config.get("distributed.scheduler.bandwidth", 100_000_000))),
        unknown_duration=config.parse_seconds(config.get("distributed.scheduler.unknown-task-duration", "500ms")),
        default_durations={prefix: config.parse_seconds(value) for prefix, value in durations.items()},
        killed_payload=killed_payload,
        computations_kept=int(config.get("distributed.diagnostics.computations.max-history", 100)),
        log_length=int(config.get("distributed.admin.low-level-log-length", 100_000)),
    )


def killed_payload(key: Key, worker: WorkerState, allowed_failures: int) -> Payload:
    """What clients raise for a task under which too many workers died."""
    last = WorkerState(
        worker.address,
        name=worker.name,
        nthreads=worker.nthreads,
        memory_limit=worker.memory_limit,
        local_directory=worker.local_directory,
        pid=worker.pid,
        nanny=worker.nanny,
        status=Status.closed,
        now=worker.last_seen,
    )  # of its own: without the tasks
    return dumps(KilledWorker(from_wire(key), last, allowed_failures))


class Scheduler(
    DataHandlers, ClusterHandlers, BalanceHandlers, ScalingHandlers, InspectHandlers, PluginHandlers, LifeHandlers
):
    """Dynamic distributed task scheduler.

    Await it, or use it in `async with`, to start it; `await scheduler.finished()` waits until it has closed.

    Args:
        host, port, protocol, interface: where to listen; port 0 takes any free one. `protocol` is "tcp", "tls" or
            "inproc".
        contact_address: the address that workers and clients are told, if not the one listened on.
        validate: check the state's invariants after every event (slow; for tests).
        allowed_failures: how many workers may die under a task before it errs.
        scheduler_file: where to write how to reach this scheduler, as JSON; removed when it closes.
        idle_timeout: seconds, or text such as "1 hour", without work after which this closes; None for never.
        preload, preload_argv: code to run as this starts and ends (see `headrace.preloading`).
        security: certificates for TLS.
        plugins: scheduler plugins to start with.
        extensions: {name: class}; each is made with the scheduler as its argument. By default those in `EXTENSIONS`.

    Raises:
        OSError: when started, if the address cannot be had.
        TypeError: a keyword is unknown.
    """

    def __init__(
        self,
        loop: Any = None,
        delete_interval: Any = "500ms",
        synchronize_worker_interval: Any = "60s",
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
        **kwargs: Any,
    ) -> None:
        if kwargs:
            raise TypeError(f"Scheduler does not know the keyword(s) {', '.join(sorted(kwargs))}")
        super().__init__(SchedulerState(state_options(allowed_failures, validate)), security)
        self.name = self.id
        self.started = 0.0
        self.services: dict[str, Any] = {}
        self.set_life(scheduler_file, idle_timeout, preload, preload_argv)
        self.state.options = replace(
            self.state.options, unrunnable_payload=self.unrunnable_payload, actor_payload=actor_payload
        )
        self.contact_address = contact_address
        self._start_plugins = list(plugins)
        self._listen: dict[str, Any] = {"host": host, "port": port, "protocol": protocol, "interface": interface}
        self.server.handlers.update(
            {
                **self.data_operations(),
                **self.cluster_operations(),
                **self.balance_operations(),
                **self.scaling_operations(),
                **self.inspect_operations(),
                **self.plugin_operations(),
                **self.life_operations(),
                "terminate": self._terminate,
                "heartbeat_worker": self._heartbeat_request,
            }
        )
        self.server.takeovers.update({"register-client": self.add_client, "register-worker": self.add_worker})
        chosen = {name: _load(path) for name, path in EXTENSIONS.items()} if extensions is None else extensions
        for name, make in chosen.items():
            self.extensions[name] = make(self)
        self._backlogs: dict[str, deque[Any]] = {}

    def __repr__(self) -> str:
        where = self.server.address if self.server.listeners else self.status.name
        return (
            f"<Scheduler {where!r}, workers: {len(self.workers)}, cores: {self.total_nthreads}, tasks: {self.n_tasks}>"
        )

    # Life

    async def _start(self) -> None:
        """Listen, and start plugins."""
        self.started = time.time()
        await self.server.listen(self._listen_address())
        for plugin in self._start_plugins:
            await self.register_scheduler_plugin(plugin, getattr(plugin, "name", None))
        self.status = Status.running
        self.periodic_callbacks["reevaluate-occupancy"].start()
        for extension in self.extensions.values():
            if hasattr(extension, "scheduler_started"):
                extension.scheduler_started()
        await self.begin_life()
        logger.info("Scheduler at: %s", self.address)

    def _listen_address(self) -> str:
        from headrace.comm.addressing import address_from_user_args

        return address_from_user_args(security=self.security, **self._listen)

    async def listen(self, address: str) -> str:
        """Listen at one more address as well, and return it as others are to use it."""
        return (await self.server.listen(address)).contact_address

    async def _close(self, **options: Any) -> None:
        """Tell clients and workers, and stop. Of the documented options, only `reason` makes a difference."""
        reason = options["reason"]
        logger.info("Closing scheduler: %s", reason)
        for plugin in list(self.plugins.values()):
            await _call(plugin, "before_close")
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
        await self.end_life()

    def _terminate(self, reason: str = "asked to terminate") -> dict[str, str]:
        self.run_detached(self.close(reason=reason))
        return {"status": "OK"}

    @property
    def address(self) -> str:
        """Where workers and clients reach this scheduler."""
        return self.contact_address or self.server.address

    # Clients

    async def add_client(self, comm: Comm, client: str, versions: dict[str, Any] | None = None, **_: Any) -> None:
        """Welcome a client; its comm becomes a stream."""
        await comm.write({"status": "OK", "id": self.id, "address": self.address})
        record = self.state.add_client(client, versions, time.time())

        def on_batch(messages: list[Any]) -> None:
            self._client_batch(record, messages)

        def on_close(error: Exception | None) -> None:
            if self.client_comms.get(client) is stream:
                self.remove_client(client)

        stream = Stream(comm, FromClient, on_batch, on_close, is_event)
        self.client_comms[client] = stream
        for topic in TERMINAL_TOPICS:
            self.event_subscribers.setdefault(topic, set()).add(client)
        logger.info("Receive client connection: %s", client)
        self.log_event(["all", client], {"action": "add-client", "client": client})
        self.notify_plugins("add_client", self, client)

    def remove_client(self, client: str, stimulus_id: str | None = None) -> None:
        """Forget a client; what only it wanted is released."""
        if client not in self.clients:
            return
        stream = self.client_comms.pop(client, None)
        backlog = self._backlogs.pop(client, None)
        if backlog:
            backlog.clear()
        for subscribers in self.event_subscribers.values():
            subscribers.discard(client)
        self.state.remove_client(client, time.time())
        self.flush()
        if stream is not None and not stream.closed:
            self.run_in_background(stream.close())
        logger.info("Remove client %s", client)
        self.log_event(["all", client], {"action": "remove-client", "client": client})
        self.notify_plugins("remove_client", self, client)

    def _client_batch(self, client: ClientState, messages: list[Any]) -> None:
        backlog = self._backlogs.get(client.client_key)
        if backlog is None:
            backlog = self._backlogs[client.client_key] = deque()
        waiting = bool(backlog)
        backlog.extend(messages)
        if not waiting:
            self._client_slice(client, backlog)

    def _client_slice(self, client: ClientState, backlog: deque[Any]) -> None:
        """Take a client's messages for a slice of time; the rest waits until others had their turn."""
        clock = time.monotonic
        deadline = clock() + SLICE_SECONDS
        now = client.last_seen = time.time()
        while backlog:
            message = backlog[0]
            try:
                self._client_message(client, message, now)
            except Exception as error:
                logger.exception("Could not take %s of client %s", type(message).__name__, client.client_key)
                if isinstance(message, SubmitGraph):
                    self.state.send(client, GraphRefused(message.keys, f"the scheduler failed on it: {error!r}"))
            if not backlog:
                break  # the client left with this message
            backlog.popleft()
            if clock() > deadline:
                break
        self.flush()
        if backlog:
            asyncio.get_running_loop().call_soon(self._client_slice, client, backlog)

    def _client_message(self, client: ClientState, message: Any, now: float) -> None:
        state = self.state
        if isinstance(message, SubmitGraph):
            state.on_submit(client, message, now)
        elif isinstance(message, ReleaseKeys):
            state.on_release(client, message, now)
        elif isinstance(message, DesireKeys):
            state.on_desire(client, message, now)
        elif isinstance(message, CancelKeys):
            state.on_cancel(client, message, now)
        elif isinstance(message, CloseClient):
            self.flush()
            self.remove_client(client.client_key)
        elif isinstance(message, ClientHeartbeat):
            pass  # any message is a sign of life

    # Workers

    async def add_worker(
        self,
        comm: Comm,
        address: str,
        name: Any = None,
        nthreads: int = 1,
        keys: dict[Any, int] | None = None,
        status: str = "running",
        **details: Any,
    ) -> None:
        """Welcome a worker; its comm becomes a stream."""
        taken = self.aliases.get(name) if name is not None else None
        if taken is not None and taken != address:
            message = f"name taken: {name!r} is the name of the worker at {taken}; give this one another"
            logger.warning("Refused the worker at %s: %s", address, message)
            await comm.write({"status": "error", "message": message})
            await comm.close()
            return
        if address in self.workers:
            self.remove_worker(address, reason="it has registered again")
        await comm.write(
            {
                "status": "OK",
                "id": self.id,
                "heartbeat_interval": HEARTBEAT_SECONDS,
                "worker_plugins": self.worker_plugins,
            }
        )
        worker = self._new_worker(address, name, nthreads, status, details)

        def on_batch(messages: list[Any]) -> None:
            self._worker_batch(worker, messages)

        def on_close(error: Exception | None) -> None:
            if self.stream_comms.get(address) is stream and self.status is Status.running:
                reason = f"its connection broke: {error}" if error else "its connection closed"
                logger.info("Worker %s: %s", address, reason)
                self.remove_worker(address, close=False, reason=reason)

        stream = Stream(comm, FromWorker, on_batch, on_close)
        self.stream_comms[address] = stream
        self.state.add_worker(worker, keys or {}, time.time())
        self.flush()
        logger.info("Register worker addr: %s name: %s", address, worker.name)
        self.log_event(["all", address], {"action": "add-worker", "worker": address})
        self.notify_plugins("add_worker", self, address)

    def _new_worker(self, address: str, name: Any, nthreads: int, status: str, details: dict[str, Any]) -> WorkerState:
        return WorkerState(
            address,
            name=name,
            nthreads=nthreads,
            memory_limit=details.get("memory_limit") or 0,
            local_directory=details.get("local_directory") or "",
            pid=details.get("pid") or 0,
            nanny=details.get("nanny"),
            server_id=str(details.get("server_id") or details.get("id") or ""),
            resources=details.get("resources"),
            services=details.get("services"),
            versions=details.get("versions"),
            extra=details.get("extra"),
            hostname=str(details.get("hostname") or ""),
            saturation=self.state.options.saturation,
            bandwidth=self.state.options.bandwidth,
            status=Status[status],
            now=time.time(),
        )

    def _worker_batch(self, worker: WorkerState, messages: list[Any]) -> None:
        now = time.time()
        for message in messages:
            kind = type(message)
            if kind is WorkerHeartbeat:
                self.state.on_heartbeat(worker, message, now, self.MEMORY_RECENT_TO_OLD_TIME)
                if message.extensions:
                    self.tell_extensions(worker, message.extensions)
            elif kind is WorkerStatus:
                self.state.set_worker_status(worker, message.status, now)
            elif kind is WorkerEvent:
                self.log_event(message.topics, message.event)
        self.state.on_worker_batch(worker, messages, now)
        if self.state.dirty:
            self.flush()

    def _heartbeat_request(self, address: str, **_: Any) -> dict[str, Any]:
        """A worker asks whether it is known."""
        known = address in self.workers
        return {"status": "OK" if known else "missing", "time": time.time(), "heartbeat-interval": HEARTBEAT_SECONDS}

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


def is_event(message: Any, error: Exception) -> bool:
    """Whether a message that cannot be sent is one that nobody waits for (what users publish may be anything)."""
    return isinstance(message, ClientEvent)


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
    except Exception:
        logger.exception("Plugin %r failed in %s", plugin, hook)
