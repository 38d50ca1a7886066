"""What the topics of the scheduler share: its state, its connections, and how their effects are sent.

Nothing here decides where work goes; that is the state's.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from headrace import config
from headrace.comm import Comm
from headrace.common.hooks import hook_of
from headrace.containment import log_raised
from headrace.exceptions import BadRequestError
from headrace.protocol import Frames, Serialize, Serialized, loads, unwrap
from headrace.rpc import PatientCalls, Stream
from headrace.rpc.server_life import Node
from headrace.security import Security

from .delay_timer import DelayTimer
from .departed_topics import DepartedTopics
from .event_log import Topics
from .memory_settings import MemorySettings
from .state.checks.story import Transition, transitions
from .state.core import SchedulerCore
from .state.records.clients import ClientState
from .state.records.groups import TaskGroup, TaskPrefix
from .state.records.memory_readings import MemoryState
from .state.records.tasks import TaskState
from .state.records.workers import WorkerState

logger = logging.getLogger("distributed.scheduler")

#: Seconds that a client's messages may take before others get their turn.
SLICE_SECONDS = 0.02


def opened(value: Any) -> Any:
    """Unpickle what a client sent for the scheduler itself to use: functions to run here, and plugins."""
    value = unwrap(value)
    if isinstance(value, (bytes, bytearray, memoryview, Frames)):
        return loads(value)
    return value


#: Why, after what.
NO_PICKLES = (
    "would have to be unpickled by the scheduler, which distributed.scheduler.pickle: false forbids; set it to true "
    "where the scheduler starts, or do without"
)
_PICKLED = (bytes, bytearray, memoryview, Frames, Serialize, Serialized)
#: What a scheduler with `distributed.scheduler.pickle: false` refuses as a whole.
RUNS_WHAT_IS_SENT = ("run_function", "register_scheduler_plugin", "feed")


class SchedulerBase(Node):
    """State, streams and the sending of effects.

    Attributes:
        state: the state machine; its records are offered under their documented names below.
        rpc: connections for requests to workers.
        client_comms: the stream to each client, by its name.
        stream_comms: the stream to each worker, by its address.
        plugins: scheduler plugins by name.
        extensions: features beside the core, by name.
        events: what was logged, by topic.
    """

    def __init__(self, state: SchedulerCore, security: Security | dict[str, Any] | None) -> None:
        super().__init__("Scheduler", {}, security, "distributed.scheduler", deserialize=False)
        self.state = state
        settings = MemorySettings.from_config()
        self.MEMORY_RECENT_TO_OLD_TIME = settings.recent_to_old_time
        self.MEMORY_REBALANCE_MEASURE = settings.measure
        self.MEMORY_REBALANCE_SENDER_MIN = settings.sender_min
        self.MEMORY_REBALANCE_RECIPIENT_MAX = settings.recipient_max
        self.MEMORY_REBALANCE_HALF_GAP = settings.half_gap
        self.delay_timer = DelayTimer(state, self.flush)
        self.patient_calls = PatientCalls(self.rpc)
        self.client_comms: dict[str, Stream] = {}
        self.stream_comms: dict[str, Stream] = {}
        self.plugins: dict[str, Any] = {}
        self.extensions: dict[str, Any] = {}
        self.worker_plugins: dict[str, Any] = {}
        self.nanny_plugins: dict[str, Any] = {}
        self.event_subscribers: dict[str, set[str]] = {}
        self.events = Topics(self.event_subscribers, int(config.get("distributed.admin.low-level-log-length")))
        delay = config.parse_seconds(config.get("distributed.scheduler.events-cleanup-delay", "1h"))
        self.departed = DepartedTopics(self.events, self._is_here, delay)
        self.task_metadata: dict[Any, Any] = {}
        self._opens_pickles = config.truth("distributed.scheduler.pickle")
        if not self._opens_pickles:
            self.server.allow_no_pickles()

    def _block_operations(self) -> None:
        super()._block_operations()
        if not self._opens_pickles:
            for operation in RUNS_WHAT_IS_SENT:
                self.server.refuse(operation, f"{operation!r} {NO_PICKLES}")

    def open_sent(self, value: Any) -> Any:
        """As `opened`.

        Raises:
            BadRequestError: it is pickled, and this scheduler is not to open pickles.
        """
        if not self._opens_pickles and isinstance(value, _PICKLED):
            raise BadRequestError(f"what was sent with this request {NO_PICKLES}")
        return opened(value)

    # The documented records

    @property
    def tasks(self) -> dict[Any, TaskState]:
        """{key: TaskState}"""
        return self.state.tasks

    @property
    def task_groups(self) -> dict[str, TaskGroup]:
        return self.state.tasks.groups

    @property
    def task_prefixes(self) -> dict[str, TaskPrefix]:
        return self.state.tasks.prefixes

    @property
    def workers(self) -> dict[str, WorkerState]:
        """{address: WorkerState}"""
        return self.state.workers

    @property
    def clients(self) -> dict[str, ClientState]:
        """{name: ClientState}"""
        return self.state.clients

    @property
    def aliases(self) -> dict[Any, str]:
        return self.state.aliases

    @property
    def host_info(self) -> dict[str, dict[str, Any]]:
        return self.state.host_info

    @property
    def unrunnable(self) -> dict[TaskState, float]:
        """Tasks in state no-worker."""
        return self.state.unrunnable

    @property
    def queued(self) -> Any:
        return self.state.queued

    @property
    def running(self) -> set[WorkerState]:
        return set(self.state.running)

    @property
    def idle(self) -> dict[str, WorkerState]:
        return {worker.address: worker for worker in self.state.idle}

    @property
    def saturated(self) -> set[WorkerState]:
        return set(self.state.saturated)

    @property
    def resources(self) -> dict[str, dict[str, float]]:
        return self.state.resources

    @property
    def bandwidth(self) -> float:
        """Average speed of transfers between workers, as these measure it, in bytes per second."""
        return self.state.bandwidth

    @property
    def bandwidth_workers(self) -> dict[tuple[str, str], float]:
        """The same by addresses of (receiver, sender)."""
        return self.state.bandwidth_workers

    @property
    def bandwidth_types(self) -> dict[str, float]:
        """The same by the type of what was sent."""
        return self.state.bandwidth_types

    @property
    def total_nthreads(self) -> int:
        return self.state.total_nthreads

    @property
    def total_occupancy(self) -> float:
        return self.state.total_occupancy

    @property
    def total_memory(self) -> int:
        """Sum of the workers' memory limits in bytes."""
        return sum(worker.memory_limit for worker in list(self.workers.values()))  # shown from other threads

    @property
    def memory(self) -> MemoryState:
        """Memory of the whole cluster."""
        return MemoryState.sum(*[worker.memory for worker in self.workers.values()])

    @property
    def n_tasks(self) -> int:
        return len(self.state.tasks)

    @property
    def computations(self) -> deque[Any]:
        return self.state.computations

    @property
    def transition_log(self) -> deque[Transition]:
        """The latest transitions of all tasks, oldest first."""
        return deque(transitions(self.state.transition_log))

    @property
    def transition_counter(self) -> int:
        return self.state.transition_counter

    @property
    def task_duration(self) -> dict[str, float]:
        """Expected seconds by prefix, of those that have run."""
        return {
            name: prefix.duration_average for name, prefix in self.task_prefixes.items() if prefix.duration_average >= 0
        }

    @property
    def validate(self) -> bool:
        return self.state.validate

    # Effects

    def flush(self) -> None:
        """Hand what the state wants sent to the streams, which send it when the loop turns."""
        state = self.state
        while state.dirty:
            dirty, state.dirty = state.dirty, []
            for receiver in dirty:
                outbox, receiver.outbox = receiver.outbox, []
                stream = (
                    self.stream_comms.get(receiver.address)
                    if type(receiver) is WorkerState
                    else self.client_comms.get(receiver.client_key)  # type: ignore[union-attr]
                )
                if stream is not None:
                    stream.send_all(outbox)
        if state.delays:
            self.delay_timer.set()

    def notify_plugins(self, hook: str, *args: Any, **kwargs: Any) -> None:
        """Call a hook of every plugin; one that raises is logged and does not stop the others.

        Coroutines run in the background after all plain hooks have run.
        """
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
                    self.run_in_background(_log_errors(result, name, hook))

    def call_extensions(self, hook: str, *args: Any) -> None:
        """Call a hook of the extensions that have it; one that raises is logged and does not stop the others."""
        for name, extension in list(self.extensions.items()):
            function = getattr(extension, hook, None)
            if function is not None:
                try:
                    function(*args)
                except BaseException as raised:
                    log_raised(logger, raised, "The extension %r failed in %s", name, hook)

    def _is_here(self, name: str) -> bool:
        return name in self.state.workers or name in self.client_comms

    def log_event(self, topic: str | Iterable[str], msg: Any) -> None:
        """Log an event under one topic or several, and send it to the clients that subscribed."""
        from headrace.messages.client import ClientEvent

        now = time.time()
        for name in [topic] if isinstance(topic, str) else topic:
            self.events.add(name, (now, msg))
            for client in self.event_subscribers.get(name, ()):
                stream = self.client_comms.get(client)
                if stream is not None:
                    stream.send(ClientEvent(name, (now, msg)))
            self.notify_plugins("log_event", name, msg)

    async def refuse(self, comm: Comm, kind: str, refusal: Exception) -> None:
        """Tell whoever wanted to register why it cannot, and the log."""
        about = str(refusal)[:12]  # which part of the registration, in words of ours
        address, text = comm.peer_address, "Refused the %s at %s: %s"
        self.server.complaints.say(f"a refused {kind}: {about}", address, text, kind, address, refusal)
        await comm.write({"status": "error", "message": str(refusal)})
        await comm.close()

    def worker_rpc(self, address: str) -> Any:
        """Requests to a worker, as methods."""
        return self.rpc.rpc(address)


async def _log_errors(coroutine: Coroutine[Any, Any, Any], name: str, hook: str) -> None:
    try:
        await coroutine
    except BaseException as raised:
        log_raised(logger, raised, "Plugin %s failed in %s", name, hook, awaited=True)


Operations = dict[str, Callable[..., Any]]
