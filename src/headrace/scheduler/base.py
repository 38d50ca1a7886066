"""What the topics of the scheduler share as mixins."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from headrace.comm import Comm
from headrace.rpc.server_life import Node
from headrace.security import Security

from .shell import Shell
from .state.checks.story import Transition, transitions
from .state.core import SchedulerState
from .state.records.clients import ClientState
from .state.records.memory_readings import MemoryState
from .state.records.tasks import TaskGroup, TaskPrefix, TaskState
from .state.records.workers import WorkerState


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

    def __init__(self, state: SchedulerState, security: Security | dict[str, Any] | None) -> None:
        super().__init__("Scheduler", {}, security, "distributed.scheduler", deserialize=False)
        self.state = state
        self.shell = shell = Shell(self, state)
        settings = shell.memory_settings
        self.MEMORY_RECENT_TO_OLD_TIME = settings.recent_to_old_time
        self.MEMORY_REBALANCE_MEASURE = settings.measure
        self.MEMORY_REBALANCE_SENDER_MIN = settings.sender_min
        self.MEMORY_REBALANCE_RECIPIENT_MAX = settings.recipient_max
        self.MEMORY_REBALANCE_HALF_GAP = settings.half_gap
        self.delay_timer = shell.delay_timer
        self.patient_calls = shell.patient_calls
        self.client_comms = shell.client_streams
        self.stream_comms = shell.worker_streams
        self.plugins = shell.plugins
        self.extensions = shell.extensions
        self.worker_plugins = shell.worker_plugins
        self.nanny_plugins = shell.nanny_plugins
        self.event_subscribers = shell.event_subscribers
        self.events = shell.events
        self.departed = shell.departed
        self.task_metadata = shell.task_metadata

    def _block_operations(self) -> None:
        super()._block_operations()
        self.shell.refuse_pickles()

    def open_sent(self, value: Any) -> Any:
        return self.shell.open_sent(value)

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
        self.shell.flush()

    def notify_plugins(self, hook: str, *args: Any, **kwargs: Any) -> None:
        self.shell.notify_plugins(hook, *args, **kwargs)

    def call_extensions(self, hook: str, *args: Any) -> None:
        self.shell.call_extensions(hook, *args)

    def log_event(self, topic: str | Iterable[str], msg: Any) -> None:
        """Log an event under one topic or several, and send it to the clients that subscribed."""
        self.shell.log_event(topic, msg)

    async def refuse(self, comm: Comm, kind: str, refusal: Exception) -> None:
        await self.shell.refuse(comm, kind, refusal)

    def worker_rpc(self, address: str) -> Any:
        return self.shell.worker_rpc(address)
