"""WorkerState: the scheduler's record of one worker: its size, what it holds and runs, and what is to be sent to it."""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

from headrace.common.display.html import code, line
from headrace.common.keys import Key
from headrace.common.status import Status

from .memory_readings import MemoryState, UnmanagedHistory, spilled_of
from .tasks import TaskState


class OrderedTasks(dict[TaskState, None]):
    """A set of tasks in the order in which they came: the keys of a dictionary, compared and combined like a set."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self.keys() == (other.keys() if isinstance(other, dict) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __and__(self, other: Iterable[TaskState]) -> set[TaskState]:
        return self.keys() & other

    def __or__(self, other: Iterable[TaskState]) -> set[TaskState]:  # type: ignore[override]
        return self.keys() | other

    def __sub__(self, other: Iterable[TaskState]) -> set[TaskState]:
        return self.keys() - other

    __rand__ = __and__
    __ror__ = __or__  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self))}}}"


class WorkerState:
    """A worker that is connected.

    Attributes:
        address: its connected address; unique.
        processing: tasks sent to it, each with its expected cost in seconds (computing and transfers).
        executing: tasks that run there now, with the seconds so far, as of its last heartbeat.
        long_running: tasks that have seceded there.
        has_what: tasks whose results it holds, oldest first.
        copies: those of them that another worker held already when it came here.
        dropping: copies that it was asked to drop and has not answered for, with the number of requests. Off the record
            already: what it says of them until then may be older than the request.
        nbytes: total size of these in bytes.
        occupancy: total expected seconds of `processing`.
        hostname: the name of its machine.
        resources: abstract resources by name, all of them.
        claimed_resources: what all tasks of `processing` ask for, of which some may have to wait; see `used_resources`.
        last_seen: time of its last heartbeat by the scheduler's clock, in seconds since the epoch.
        heard_at: the same by the clock that is never set.
        time_delay: its clock minus the scheduler's, in seconds.
        outbox: messages to it that the shell has not sent yet.
    """

    __slots__ = (
        "__weakref__",
        "actors",
        "address",
        "alone",
        "bandwidth",
        "claimed_resources",
        "copies",
        "dropping",
        "executing",
        "extra",
        "first_attempt",
        "has_what",
        "heard_at",
        "hostname",
        "last_seen",
        "local_directory",
        "long_running",
        "memory_limit",
        "metrics",
        "name",
        "nanny",
        "nbytes",
        "nthreads",
        "occupancy",
        "outbox",
        "pid",
        "processing",
        "resources",
        "scheduler_ref",
        "server_id",
        "services",
        "slots",
        "status",
        "time_delay",
        "unmanaged_history",
        "versions",
    )

    def __init__(
        self,
        address: str,
        *,
        name: object = None,
        nthreads: int = 1,
        memory_limit: int = 0,
        local_directory: str = "",
        pid: int = 0,
        nanny: str | None = None,
        server_id: str = "",
        resources: dict[str, float] | None = None,
        services: dict[str, Any] | None = None,
        versions: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
        hostname: str = "",
        saturation: float = 1.1,
        bandwidth: float = 100e6,
        status: Status = Status.running,
        now: float = 0.0,
        scheduler: Any = None,
    ) -> None:
        self.scheduler_ref = weakref.ref(scheduler) if scheduler is not None else None
        self.address = address
        self.name = address if name is None else name
        self.nthreads = nthreads
        self.memory_limit = memory_limit
        self.local_directory = local_directory
        self.pid = pid
        self.nanny = nanny
        self.server_id = server_id
        self.resources = dict(resources or {})
        self.claimed_resources = dict.fromkeys(self.resources, 0.0)
        self.hostname = hostname
        self.services = services or {}
        self.versions = versions or {}
        self.extra = extra or {}
        self.bandwidth = bandwidth
        self.status = status
        self.last_seen = now
        self.heard_at = now
        self.time_delay = 0.0
        self.metrics: dict[str, Any] = {}
        self.unmanaged_history = UnmanagedHistory()
        self.processing: dict[TaskState, float] = {}
        self.executing: dict[TaskState, float] = {}
        self.long_running: set[TaskState] = set()
        self.has_what = OrderedTasks()
        self.copies: dict[TaskState, None] = {}
        self.dropping: dict[Key, int] = {}
        self.actors: set[TaskState] = set()
        self.nbytes = 0
        self.occupancy = 0.0
        self.outbox: list[Any] = []
        #: assignments up to this number were made before it was connected
        self.first_attempt = 0
        #: the set of this worker only, shared by every task that it alone holds
        self.alone: frozenset[WorkerState] = frozenset((self,))
        #: root-like tasks to hold at a time, whatever they take (`worker-saturation`)
        self.slots: float
        self.set_slots(saturation)

    def __repr__(self) -> str:
        name = f", name: {self.name}" if self.name != self.address else ""
        return (
            f"<WorkerState {self.address!r}{name}, status: {self.status.name}, "
            f"memory: {len(self.has_what)}, processing: {len(self.processing)}>"
        )

    def _repr_html_(self) -> str:
        name = code(self.name) if self.name != self.address else None
        counts = {"name": name, "memory": len(self.has_what), "processing": len(self.processing)}
        return line("WorkerState", {"": code(self.address), **counts}, self.status.name)

    @property
    def host(self) -> str:
        """The host part of its address."""
        place = self.address.partition("://")[2].partition("/")[0]  # `inproc` and WebSockets have more behind it
        host, colon, _ = place.rpartition(":")
        return (host if colon and not place.endswith("]") else place).strip("[]")

    def on_metrics(self, metrics: dict[str, Any], now: float, recent_to_old: float) -> None:
        """Take the readings of a heartbeat.

        Args:
            recent_to_old: seconds after which unmanaged memory counts as old.
        """
        self.metrics = metrics
        process = int(metrics.get("memory", 0))
        managed = max(0, self.nbytes - spilled_of(metrics)[0])
        self.unmanaged_history.add(now, max(0, process - managed), recent_to_old)

    @property
    def used_resources(self) -> dict[str, float]:
        """Abstract resources that its tasks take, by name; never above `resources`: the rest waits there."""
        claimed = self.claimed_resources
        return {name: min(claimed.get(name, 0.0), amount) for name, amount in self.resources.items()}

    @property
    def memory(self) -> MemoryState:
        """Memory of its process and of its results, as of the last heartbeat."""
        in_memory, on_disk = spilled_of(self.metrics)
        return MemoryState(
            process=int(self.metrics.get("memory", 0)),
            unmanaged_old=self.unmanaged_history.least,
            managed=self.nbytes - in_memory,
            spilled=on_disk,
        )

    @property
    def scheduler(self) -> Any:
        """Of this worker; None once it is gone, and for a record of one's own."""
        return self.scheduler_ref() if self.scheduler_ref is not None else None

    @property
    def needs_what(self) -> dict[TaskState, int]:
        """Results that it has to fetch for its tasks, each with the number of these."""
        return Counter(
            dependency
            for task in self.processing
            for dependency in task._dependencies
            if self not in dependency.who_has
        )

    @property
    def task_prefix_count(self) -> dict[str, int]:
        """Number of tasks of each prefix that the worker has been sent and not done."""
        return Counter(task.prefix.name for task in self.processing if task not in self.long_running)

    def set_slots(self, saturation: float) -> None:
        """Hold so many root-like tasks at a time, per thread."""
        self.slots = math.inf if math.isinf(saturation) else max(math.ceil(self.nthreads * saturation), 1)

    def add_replica(self, ts: TaskState) -> None:
        """Record that it holds a copy of a result."""
        if ts not in self.has_what:
            self.has_what[ts] = None
            self.nbytes += ts.get_nbytes()

    def remove_replica(self, ts: TaskState) -> None:
        """Record that it no longer does."""
        if ts in self.has_what:
            del self.has_what[ts]
            self.copies.pop(ts, None)
            self.nbytes -= ts.get_nbytes()

    def clean(self) -> WorkerState:
        """A copy without tasks, to be sent elsewhere."""
        copy = WorkerState(
            self.address,
            name=self.name,
            nthreads=self.nthreads,
            memory_limit=self.memory_limit,
            local_directory=self.local_directory,
            pid=self.pid,
            nanny=self.nanny,
            services=self.services,
            status=self.status,
            now=self.last_seen,
        )
        copy.occupancy = self.occupancy
        return copy

    def identity(self) -> dict[str, Any]:
        """Entry of the worker in `Client.scheduler_info`; msgpack types only."""
        return {
            "type": "Worker",
            "id": self.name,
            "host": self.host,
            "resources": self.resources,
            "local_directory": self.local_directory,
            "name": self.name,
            "nthreads": self.nthreads,
            "memory_limit": self.memory_limit,
            "last_seen": self.last_seen,
            "services": self.services,
            "metrics": self.metrics,
            "status": self.status.name,
            "nanny": self.nanny,
        }
