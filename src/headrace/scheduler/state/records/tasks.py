"""TaskState: the scheduler's record of one task.

A million of these live at once, so a record holds only what every task has; what few tasks have is in `Rare`, made on
first use, and sets that would be empty are one shared empty set. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from headrace.common.display.html import code, line
from headrace.common.display.units import bytes_in_words
from headrace.common.keys import Key, from_wire
from headrace.messages.base import NO_OPTIONS, Payload, TaskOptions
from headrace.scheduler.state.checks.record_invariants import validate_task_state

if TYPE_CHECKING:
    from .clients import ClientState
    from .groups import TaskGroup, TaskPrefix
    from .task_functions import Function
    from .workers import WorkerState

STATES = ("released", "waiting", "no-worker", "queued", "processing", "memory", "erred", "forgotten")
#: Stands for every empty relation of every task; never mutated.
NOTHING: frozenset[Any] = frozenset()
UNKNOWN_NBYTES = -1
#: Why clients are told that what they want is cancelled although nobody cancelled it.
LOST = "its data, or data that it depends on, was lost with the last worker that held it, and no task computes it again"


class Rare:
    """Attributes that only some tasks have: failures, retries left, metadata, workers that can call an actor."""

    __slots__ = (
        "departures",
        "erred_on",
        "exception",
        "exception_blame",
        "exception_text",
        "metadata",
        "proxies",
        "retries",
        "retry_at",
        "scattered",
        "suspicious",
        "traceback",
        "traceback_text",
    )

    def __init__(self) -> None:
        self.retries = 0
        self.retry_at = 0.0
        self.suspicious = 0
        #: how many workers left in good order while they ran it
        self.departures = 0
        self.exception: Payload = None
        self.traceback: Payload = None
        self.exception_text = ""
        self.traceback_text = ""
        self.exception_blame: TaskState | None = None
        self.erred_on: set[str] = set()
        self.metadata: dict[str, Any] = {}
        self.proxies: set[WorkerState] = set()
        #: of scattered data: the number of the latest scattering to each worker
        self.scattered: dict[WorkerState, int] = {}


class TaskState:
    """A task that the scheduler knows.

    Attributes:
        key: its name, unique.
        state: one of `STATES`.
        priority: (minus the user's priority, submission, place in the graph); smaller runs earlier.
        waiting_on: dependencies that are not in memory, while the task waits.
        waiters: dependents that wait for it or may need it again.
        who_wants: clients that want the result.
        who_has: workers that hold the result.
        processing_on: the worker that it was sent to.
        nbytes: size of the result in bytes, or -1 while unknown.
        type: name of the result's type.
        attempt: number of the latest assignment to a worker.
        options: what the user asked for beside the call.
    """

    __slots__ = (
        "_dependencies",
        "_dependents",
        "_rare",
        "_waiters",
        "_waiting_on",
        "arguments",
        "attempt",
        "function",
        "group",
        "key",
        "nbytes",
        "options",
        "priority",
        "processing_on",
        "state",
        "type",
        "who_has",
        "who_wants",
    )

    def __init__(self, key: Key, group: TaskGroup) -> None:
        self.key = key
        self.group = group
        self.state = "released"
        self.function: Function | None = None
        self.arguments: Payload = None
        self.options: TaskOptions = NO_OPTIONS
        self.priority: tuple[float, float, int] = (0, 0, 0)
        self.attempt = 0
        self.nbytes = UNKNOWN_NBYTES
        self.type: str = ""
        self.processing_on: WorkerState | None = None
        self.who_has: frozenset[WorkerState] = NOTHING
        self.who_wants: frozenset[ClientState] = NOTHING
        self._dependencies: tuple[TaskState, ...] = ()
        self._dependents: set[TaskState] | None = None
        self._waiting_on: set[TaskState] | None = None
        self._waiters: set[TaskState] | None = None
        self._rare: Rare | None = None

    def __repr__(self) -> str:
        return f"<TaskState {self.key!r} {self.state}>"

    def _repr_html_(self) -> str:
        size = bytes_in_words(self.nbytes) if self.nbytes >= 0 else None
        return line(
            "TaskState", {"size": size, "type": self.type or None, "key": code(from_wire(self.key))}, self.state
        )

    def __lt__(self, other: TaskState) -> bool:
        return self.priority < other.priority

    @property
    def dependencies(self) -> set[TaskState]:
        """Tasks whose results this one needs."""
        return set(self._dependencies)

    @property
    def dependents(self) -> set[TaskState]:
        """Tasks that need this one's result."""
        return set(self._dependents or ())

    @property
    def waiting_on(self) -> set[TaskState]:
        return set(self._waiting_on or ())

    @property
    def waiters(self) -> set[TaskState]:
        return set(self._waiters or ())

    @property
    def prefix(self) -> TaskPrefix:
        return self.group.prefix

    @property
    def group_key(self) -> str:
        return self.group.name

    @property
    def rare(self) -> Rare:
        """The record of rare attributes, made when first asked for."""
        if self._rare is None:
            self._rare = Rare()
        return self._rare

    @property
    def run_spec(self) -> tuple[Function, Payload] | None:
        """The call as it came, still pickled; `None` for data that no task computes."""
        return None if self.function is None else (self.function, self.arguments)

    @property
    def run_id(self) -> int:
        return self.attempt

    @run_id.setter
    def run_id(self, number: int) -> None:
        self.attempt = number

    @property
    def retries(self) -> int:
        """Number of times that the task may still err."""
        return self._rare.retries if self._rare else 0

    @retries.setter
    def retries(self, number: int) -> None:
        self.rare.retries = number

    @property
    def retry_at(self) -> float:
        """Time at which the task may run again after it failed, in seconds since the epoch; 0 for at once."""
        return self._rare.retry_at if self._rare else 0.0

    @property
    def suspicious(self) -> int:
        """Number of workers that died while they ran the task."""
        return self._rare.suspicious if self._rare else 0

    @suspicious.setter
    def suspicious(self, number: int) -> None:
        self.rare.suspicious = number

    @property
    def exception(self) -> Payload:
        return self._rare.exception if self._rare else None

    @exception.setter
    def exception(self, exception: Payload) -> None:
        self.rare.exception = exception

    @property
    def traceback(self) -> Payload:
        return self._rare.traceback if self._rare else None

    @traceback.setter
    def traceback(self, traceback: Payload) -> None:
        self.rare.traceback = traceback

    @property
    def exception_text(self) -> str:
        return self._rare.exception_text if self._rare else ""

    @exception_text.setter
    def exception_text(self, text: str | None) -> None:
        self.rare.exception_text = text or ""

    @property
    def traceback_text(self) -> str:
        return self._rare.traceback_text if self._rare else ""

    @traceback_text.setter
    def traceback_text(self, text: str | None) -> None:
        self.rare.traceback_text = text or ""

    @property
    def exception_blame(self) -> TaskState | None:
        """The task whose failure this one shares (itself, if it failed)."""
        return self._rare.exception_blame if self._rare else None

    @exception_blame.setter
    def exception_blame(self, task: TaskState | None) -> None:
        self.rare.exception_blame = task

    @property
    def erred_on(self) -> set[str]:
        """Addresses of the workers on which it failed."""
        return self._rare.erred_on if self._rare else set()

    @erred_on.setter
    def erred_on(self, addresses: Iterable[str] | None) -> None:
        self.rare.erred_on = set(addresses or ())

    @property
    def metadata(self) -> dict[str, Any]:
        return self.rare.metadata

    @metadata.setter
    def metadata(self, metadata: dict[str, Any] | None) -> None:
        self.rare.metadata = {} if metadata is None else metadata

    @property
    def annotations(self) -> dict[str, Any]:
        """All that was given with `dask.annotate`, or as an option of the call, by name."""
        return self.options.as_annotations()

    @annotations.setter
    def annotations(self, annotations: dict[str, Any] | None) -> None:
        self.options = replace(self.options, annotations=dict(annotations or {}))

    @property
    def actor(self) -> bool:
        return self.options.actor

    @actor.setter
    def actor(self, is_actor: bool) -> None:
        self.options = replace(self.options, actor=bool(is_actor))

    @property
    def loose_restrictions(self) -> bool:
        return self.options.allow_other_workers

    @loose_restrictions.setter
    def loose_restrictions(self, loose: bool) -> None:
        self.options = replace(self.options, allow_other_workers=bool(loose))

    @property
    def worker_restrictions(self) -> set[str]:
        """Addresses and names of workers that may run it; with no restriction at all, every worker may."""
        return {name for name in self.options.workers if not is_host(name)}

    @worker_restrictions.setter
    def worker_restrictions(self, names: Iterable[str] | None) -> None:
        self.options = replace(self.options, workers=[*self.host_restrictions, *(names or ())])

    @property
    def host_restrictions(self) -> set[str]:
        """IP addresses of hosts whose workers may run it; a host's name cannot be told from a worker's."""
        return {name for name in self.options.workers if is_host(name)}

    @host_restrictions.setter
    def host_restrictions(self, hosts: Iterable[str] | None) -> None:
        self.options = replace(self.options, workers=[*self.worker_restrictions, *(hosts or ())])

    @property
    def resource_restrictions(self) -> dict[str, float]:
        return self.options.resources

    @resource_restrictions.setter
    def resource_restrictions(self, amounts: Mapping[str, float] | None) -> None:
        self.options = replace(self.options, resources=dict(amounts or {}))

    def get_nbytes(self) -> int:
        """Size of the result in bytes, or a default while it is unknown."""
        return self.nbytes if self.nbytes >= 0 else self.group.default_nbytes

    def get_nbytes_deps(self) -> int:
        """Total size in bytes of what this task needs."""
        return sum(dependency.get_nbytes() for dependency in self._dependencies)

    @property
    def has_lost_dependencies(self) -> bool:
        """Whether something it needs has been forgotten, so that it can never run again."""
        return any(dependency.state == "forgotten" for dependency in self._dependencies)

    def set_nbytes(self, nbytes: int) -> None:
        """Record the size of the result, in bytes, with all who hold it."""
        difference = nbytes - self.get_nbytes()
        for worker in self.who_has:
            worker.nbytes += difference
        self.group.update_nbytes(nbytes - max(self.nbytes, 0))
        self.nbytes = nbytes

    def validate(self) -> None:
        """Raise `InvariantError` if this record contradicts itself or its neighbours."""
        validate_task_state(self)

    def add_dependency(self, other: TaskState) -> None:
        """Record that this task needs `other`."""
        dependency = other
        if dependency not in self._dependencies:
            self._dependencies = (*self._dependencies, dependency)
        link(self, dependency)
        if dependency.group is not self.group:
            self.group.dependencies.add(dependency.group)


def is_host(name: str) -> bool:
    """Whether what a user restricted a task to is the IP address of a host."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def link(task: TaskState, dependency: TaskState) -> None:
    """Make `task` a dependent of `dependency`."""
    if dependency._dependents is None:
        dependency._dependents = {task}
    else:
        dependency._dependents.add(task)
