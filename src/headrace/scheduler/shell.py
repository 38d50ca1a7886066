"""The shell that the scheduler's topics and extensions share: its core, its connections, and how effects are sent.

Nothing here decides where work goes; that is the core's.
"""

from __future__ import annotations

import inspect
import logging
import time
from asyncio import Task
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from headrace import clock, config
from headrace.comm import Comm
from headrace.common.hooks import hook_of
from headrace.common.status import Status
from headrace.containment import log_failure_of, log_raised
from headrace.exceptions import BadRequestError
from headrace.messages import ToClient, ToWorker
from headrace.messages.client import ClientEvent
from headrace.protocol import Frames, Serialize, Serialized, loads, unwrap
from headrace.rpc import ConnectionPool, PatientCalls, PeriodicCallback, PooledRPCCall, RequestServer, Stream
from headrace.rpc.handler_times import HandlerTimes
from headrace.rpc.server import Operation
from headrace.rpc.server_life import Node
from headrace.security import Security

from .delay_timer import DelayTimer
from .departed_topics import DepartedTopics
from .event_log import Topics
from .memory_settings import MemorySettings
from .plugin_registry import PluginRegistry
from .state.core import SchedulerCore
from .state.records.memory_readings import MemoryState
from .state.records.workers import WorkerState

logger = logging.getLogger("distributed.scheduler")

#: Operations by name, as topics and extensions register them.
Operations: TypeAlias = Mapping[str, Operation | Callable[..., object]]

#: The reason for a refusal, to follow the name of what is refused.
NO_PICKLES = (
    "would have to be unpickled by the scheduler, which distributed.scheduler.pickle: false forbids; set it to true "
    "where the scheduler starts, or do without"
)
_PICKLED = (bytes, bytearray, memoryview, Frames, Serialize, Serialized)
#: Operations that a scheduler with `distributed.scheduler.pickle: false` refuses as a whole.
RUNS_WHAT_IS_SENT = ("run_function", "register_scheduler_plugin", "feed")


def opened(value: object) -> Any:
    """Unpickle what a client sent for the scheduler itself to use: functions to run here, and plugins."""
    value = unwrap(value)
    if isinstance(value, (bytes, bytearray, memoryview, Frames)):
        return loads(value)
    return value


def stimulus(what: str) -> str:
    """The name of what has happened now, for events that nobody has given one."""
    return f"{what}-{time.time()}"


class Shell:
    """One scheduler's core, streams, plugins, extensions and log of events.

    Args:
        facade: the scheduler object that users know.
        core: the state machine.

    Attributes:
        facade: to be handed to users' plugins, extensions and functions.
        server: answers requests; `add_operations` registers them.
        rpc: connections for requests to workers; `patient_calls`: the same for long answers of busy workers.
        client_streams: the stream to each connected client, by its name.
        worker_streams: the stream to each connected worker, by its address.
        plugins: scheduler plugins by name; `plugin_registry` adds and removes them, and has transitions watched.
        worker_plugins, nanny_plugins: pickled plugins that every worker and every nanny gets, by name.
        extensions: features beside the core, by name.
        events: the log of events, by topic; `event_subscribers` has the names of the clients that follow a topic.
        departed: removes the topics of workers and clients from that log some time after they have left.
        task_metadata: the nested dictionary that clients share.
        periodic_callbacks: timers by name; those of them that run are stopped when the scheduler closes.
        security: certificates for TLS.
        memory_settings: how readings of workers' memory are judged.
        started: when the scheduler was started, in seconds since the epoch; 0 before.
        service_ports: gives the ports of other services that run beside the scheduler, by name.
        delay_timer: wakes the core when a task's next attempt is due.
        stream_times: of the messages in streams that were taken, by "client" and "worker": how many, and how long it
            took to do what they ask for.
    """

    def __init__(self, facade: Node, core: SchedulerCore) -> None:
        self.facade = facade
        self.core = core
        self.server: RequestServer = facade.server
        self.rpc: ConnectionPool = facade.rpc
        self.patient_calls = PatientCalls(self.rpc)
        self.security: Security = facade.security
        self.periodic_callbacks: dict[str, PeriodicCallback] = facade.periodic_callbacks
        self.client_streams: dict[str, Stream] = {}
        self.worker_streams: dict[str, Stream] = {}
        self.plugin_registry = PluginRegistry(facade, core)
        self.plugins: dict[str, Any] = self.plugin_registry.plugins
        self.extensions: dict[str, Any] = {}
        self.worker_plugins: dict[str, Any] = {}
        self.nanny_plugins: dict[str, Any] = {}
        self.event_subscribers: dict[str, set[str]] = {}
        self.events = Topics(self.event_subscribers, int(config.get("distributed.admin.low-level-log-length")))
        delay = config.parse_seconds(config.get("distributed.scheduler.events-cleanup-delay", "1h"))
        self.departed = DepartedTopics(self.events, self._is_here, delay)
        self.task_metadata: dict[Any, Any] = {}
        self.memory_settings = MemorySettings.from_config()
        self.started = 0.0
        self.service_ports: Callable[[], dict[str, int]] = dict
        self.delay_timer = DelayTimer(core, self.flush)
        self.stream_times = HandlerTimes()
        self._opens_pickles = config.truth("distributed.scheduler.pickle")
        if not self._opens_pickles:
            self.server.allow_no_pickles()

    # The life of the scheduler

    @property
    def id(self) -> str:
        """The scheduler's identifier."""
        return self.facade.id

    @property
    def address(self) -> str:
        """The address at which workers and clients reach the scheduler."""
        return self.facade.address

    @property
    def status(self) -> Status:
        """The stage of its life that the scheduler is in."""
        return self.facade.status

    @property
    def is_running(self) -> bool:
        """Whether the scheduler has started and not begun to close."""
        return self.facade.is_running

    def now(self) -> float:
        """The time for the core, by a clock that nobody sets."""
        return clock.now()

    def run_in_background(self, work: Coroutine[Any, Any, Any]) -> Task[Any]:
        """Run a coroutine until it ends or the scheduler closes."""
        return self.facade.run_in_background(work)

    def run_detached(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine that outlives the closing of the scheduler: the closing itself, asked for from within."""
        self.facade.run_detached(work)

    # Requests

    def add_operations(self, owner: str, operations: Operations) -> None:
        """Answer these operations from now on.

        Args:
            owner: the topic or extension that answers them, for the error.
            operations: by name; a plain function means `Operation(function)`.

        Raises:
            ValueError: an operation is registered already.
        """
        self.server.add_operations(owner, operations)

    def refuse_pickles(self) -> None:
        """Refuse the operations that run what is sent, if this scheduler is to open no pickles."""
        if not self._opens_pickles:
            for operation in RUNS_WHAT_IS_SENT:
                self.server.refuse(operation, f"{operation!r} {NO_PICKLES}")

    def open_sent(self, value: object) -> Any:
        """Unpickle a function or a plugin that a client sent; other values stay as they are.

        Raises:
            BadRequestError: it is pickled, and this scheduler is not to open pickles.
        """
        if not self._opens_pickles and isinstance(value, _PICKLED):
            raise BadRequestError(f"what was sent with this request {NO_PICKLES}")
        return opened(value)

    def worker_rpc(self, address: str) -> PooledRPCCall:
        """A worker's or nanny's operations, as methods. It has listened: where nothing does any more, it is dead."""
        return PooledRPCCall(address, self.rpc, retry_refused=False)

    async def refuse(self, comm: Comm, kind: str, refusal: Exception) -> None:
        """Tell the worker or client that wanted to register why it cannot, and the log."""
        about = str(refusal)[:12]  # which part of the registration, in words of ours
        address, text = comm.peer_address, "Refused the %s at %s: %s"
        self.server.complaints.say(f"a refused {kind}: {about}", address, text, kind, address, refusal)
        await comm.write({"status": "error", "message": str(refusal)})
        await comm.close()

    # Messages

    def flush(self) -> None:
        """Hand the core's messages to the streams, which send them when the loop turns."""
        core = self.core
        while core.dirty:
            dirty, core.dirty = core.dirty, []
            for receiver in dirty:
                outbox, receiver.outbox = receiver.outbox, []
                stream = (
                    self.worker_streams.get(receiver.address)
                    if type(receiver) is WorkerState
                    else self.client_streams.get(receiver.client_key)  # type: ignore[union-attr]
                )
                if stream is not None:
                    stream.send_all(outbox)
        if core.delays:
            self.delay_timer.set()

    def worker_send(self, worker: str, msg: ToWorker) -> None:
        """Send a stream message to a worker; one that has just left is passed over."""
        stream = self.worker_streams.get(worker)
        if stream is not None:
            stream.send(msg)

    def client_send(self, client: str, msg: ToClient) -> None:
        """Send a stream message to a client; one that has just left is passed over."""
        stream = self.client_streams.get(client)
        if stream is not None:
            stream.send(msg)

    def log_event(self, topic: str | Iterable[str], msg: object) -> None:
        """Log an event under one topic or several, and send it to the clients that subscribed."""
        now = time.time()
        for name in [topic] if isinstance(topic, str) else topic:
            self.events.add(name, (now, msg))
            for client in self.event_subscribers.get(name, ()):
                self.client_send(client, ClientEvent(name, (now, msg)))
            self.notify_plugins("log_event", name, msg)

    def change_worker_status(
        self, worker: WorkerState, status: str, reason: str = "", stimulus_id: str | None = None
    ) -> None:
        """A worker runs, pauses or is closing from now on; logged as an event of the worker, if that is news.

        Args:
            reason: of one that closes, why, in words.
        """
        before = worker.status.name
        self.core.set_worker_status(worker, status, self.now(), reason)
        if status != before:
            self.note_worker_status(worker.address, before, status, stimulus_id)

    def note_worker_status(self, address: str, before: str, status: str, stimulus_id: str | None = None) -> None:
        """Log as an event that a worker has another status; "init" before it has one."""
        self.log_event(
            address,
            {
                "action": "worker-status-change",
                "prev-status": before,
                "status": status,
                "stimulus_id": stimulus_id or stimulus("worker-status-change"),
            },
        )

    def _is_here(self, name: str) -> bool:
        return name in self.core.workers or name in self.client_streams

    # Plugins and extensions

    def awaits_hook(self, hook: str) -> bool:
        """Whether a plugin's hook is a coroutine function, so that something may have to wait for its end."""
        return any(inspect.iscoroutinefunction(hook_of(plugin, hook)) for plugin in self.plugins.values())

    def notify_plugins(self, /, hook: str, *args: object, **kwargs: object) -> list[Task[None]]:
        """Call a hook of every plugin; one that raises is logged and does not stop the others.

        Coroutines run in the background after all plain hooks have run.

        Returns:
            The tasks of these coroutines, for whoever waits for them.
        """
        running = []
        for name, plugin in list(self.plugins.items()):
            function = hook_of(plugin, hook)
            if function is None:
                continue
            try:
                result = function(*args, **kwargs)
            except BaseException as raised:
                log_raised(logger, raised, "Plugin %s failed in %s", name, hook)
            else:
                if inspect.iscoroutine(result):
                    running.append(
                        self.run_in_background(log_failure_of(logger, result, "Plugin %s failed in %s", name, hook))
                    )
        return running

    def call_extensions(self, hook: str, *args: object) -> None:
        """Call a hook of the extensions that have it; one that raises is logged and does not stop the others."""
        for name, extension in list(self.extensions.items()):
            function = getattr(extension, hook, None)
            if function is not None:
                try:
                    function(*args)
                except BaseException as raised:
                    log_raised(logger, raised, "The extension %r failed in %s", name, hook)

    # Totals

    @property
    def total_memory(self) -> int:
        """Sum of the workers' memory limits in bytes."""
        return sum(worker.memory_limit for worker in list(self.core.workers.values()))  # shown from other threads

    @property
    def memory(self) -> MemoryState:
        """Memory of the whole cluster."""
        return MemoryState.sum(*[worker.memory for worker in self.core.workers.values()])

    def count_running(self) -> int:
        """The number of tasks that run now, as an estimate: workers may hold more tasks than they have threads."""
        return sum(
            min(worker.nthreads, len(worker.processing) - len(worker.long_running)) + len(worker.long_running)
            for worker in self.core.workers.values()
        )


class HasShell(Protocol):
    """An object of a scheduler: the public Scheduler, or the server under it."""

    @property
    def shell(self) -> Shell:
        """The scheduler's shell."""


def shell_of(scheduler: HasShell | Shell) -> Shell:
    """The shell of a scheduler; documented classes of extensions and plugins may be made with either."""
    return scheduler if isinstance(scheduler, Shell) else scheduler.shell
