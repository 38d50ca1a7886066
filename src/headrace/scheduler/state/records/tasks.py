"""What the scheduler knows of tasks: one record a task, one a group, one a prefix, one a computation.

A million of these live at once, so a record holds only what every task has; what few tasks have is in `Rare`, made on
first use, and sets that would be empty are one shared empty set. Nothing here decides anything.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from headrace.common.display.html import (
    Html,
    card,
    code,
    facts,
    fold,
    join,
    line,
)
from headrace.common.display.units import bytes_in_words
from headrace.common.keys import Key, from_wire, key_group, key_prefix
from headrace.common.source_code import SourceCode
from headrace.messages.base import NO_OPTIONS, Payload, TaskOptions
from headrace.scheduler.state.checks.invariants import validate_task_state

if TYPE_CHECKING:
    from .clients import ClientState
    from .task_functions import Function
    from .workers import WorkerState

STATES = ("released", "waiting", "no-worker", "queued", "processing", "memory", "erred", "forgotten")
#: A group with tasks in one of these has work left.
_TO_COMPUTE = ("released", "waiting", "no-worker", "queued", "processing")
#: Stands for every empty relation of every task; never mutated.
NOTHING: frozenset[Any] = frozenset()
UNKNOWN_NBYTES = -1
#: Why clients are told that what they want is cancelled although nobody cancelled it.
LOST = "its data, or data that it depends on, was lost with the last worker that held it, and no task computes it again"
#: Assumed for a result of unknown size when it has to be weighed, in bytes, unless the options say otherwise.
DEFAULT_DATA_SIZE = 1024


class Rare:
    """What only some tasks have: failures, retries left, metadata, workers that can call an actor."""

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

    @property
    def retries(self) -> int:
        """How many more times the task may err."""
        return self._rare.retries if self._rare else 0

    @property
    def retry_at(self) -> float:
        """When it may run again after it failed, in seconds since the epoch; 0 for at once."""
        return self._rare.retry_at if self._rare else 0.0

    @property
    def suspicious(self) -> int:
        """How many workers died while they ran this."""
        return self._rare.suspicious if self._rare else 0

    @property
    def exception(self) -> Payload:
        return self._rare.exception if self._rare else None

    @property
    def traceback(self) -> Payload:
        return self._rare.traceback if self._rare else None

    @property
    def exception_text(self) -> str:
        return self._rare.exception_text if self._rare else ""

    @property
    def traceback_text(self) -> str:
        return self._rare.traceback_text if self._rare else ""

    @property
    def exception_blame(self) -> TaskState | None:
        """The task whose failure this one shares (itself, if it failed)."""
        return self._rare.exception_blame if self._rare else None

    @property
    def erred_on(self) -> set[str]:
        """Addresses of the workers on which it failed."""
        return self._rare.erred_on if self._rare else set()

    @property
    def metadata(self) -> dict[str, Any]:
        return self.rare.metadata

    @property
    def annotations(self) -> dict[str, Any]:
        return self.options.annotations

    @property
    def actor(self) -> bool:
        return self.options.actor

    @property
    def loose_restrictions(self) -> bool:
        return self.options.allow_other_workers

    @property
    def worker_restrictions(self) -> set[str]:
        """Addresses and names of workers that may run it; with no restriction at all, every worker may."""
        return {name for name in self.options.workers if not is_host(name)}

    @property
    def host_restrictions(self) -> set[str]:
        """IP addresses of hosts whose workers may run it; a host's name cannot be told from a worker's."""
        return {name for name in self.options.workers if is_host(name)}

    @property
    def resource_restrictions(self) -> dict[str, float]:
        return self.options.resources

    def get_nbytes(self) -> int:
        """Size of the result in bytes, or a default while it is unknown."""
        return self.nbytes if self.nbytes >= 0 else self.group.default_nbytes

    def get_nbytes_deps(self) -> int:
        """Total size in bytes of what this task needs."""
        return sum(dependency.get_nbytes() for dependency in self._dependencies)

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


class TaskCollection:
    """What groups and prefixes share: totals over tasks."""

    name: str
    nbytes_total: int
    duration: float
    types: set[str]
    all_durations: dict[str, float]

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def states(self) -> dict[str, int]:
        raise NotImplementedError  # pragma: no cover - both kinds define it

    def __len__(self) -> int:
        return sum(self.states.values())

    def __repr__(self) -> str:
        present = ", ".join(f"{state}: {count}" for state, count in self.states.items() if count)
        return f"<{type(self).__name__} {self.name}: {present}>"


class TaskGroup(TaskCollection):
    """Tasks whose keys share their first part (`"x-123"` of `("x-123", 0)`).

    Attributes:
        states: how many tasks are in each state.
        dependencies: groups that its tasks depend on.
        nbytes_total: bytes that its tasks have produced.
        duration: seconds spent on its tasks, all actions together; `all_durations` has them by action.
        start, stop: first start and last stop by the workers' clocks, in seconds since the epoch.
        types: names of the types of its results.
        last_worker: the worker that a run of its root-like tasks goes to, or `None`.
        last_worker_tasks_left: how many more of them go there.
        default_nbytes: assumed size, in bytes, of its results whose size is not known.
    """

    __slots__ = (
        "all_durations",
        "count",
        "default_nbytes",
        "dependencies",
        "duration",
        "entered",
        "last_worker",
        "last_worker_tasks_left",
        "left",
        "name",
        "nbytes_total",
        "prefix",
        "span_id",
        "start",
        "stop",
        "types",
    )

    def __init__(self, name: str, prefix: TaskPrefix, default_nbytes: int = DEFAULT_DATA_SIZE) -> None:
        super().__init__(name)
        self.prefix = prefix
        self.default_nbytes = default_nbytes
        #: how often its tasks have come into each state, and left it: what is in it, and (of the prefix) what ever was
        self.entered: dict[str, int] = dict.fromkeys(STATES, 0)
        self.left: dict[str, int] = dict.fromkeys(STATES, 0)
        #: how many of its tasks are known (all states but forgotten)
        self.count = 0
        self.dependencies: set[TaskGroup] = set()
        self.nbytes_total = 0
        self.duration = 0.0
        self.all_durations: dict[str, float] = {}
        self.types: set[str] = set()
        self.start = 0.0
        self.stop = 0.0
        self.last_worker: WorkerState | None = None
        self.last_worker_tasks_left = 0
        self.span_id: str | None = None
        prefix.groups.add(self)

    @property
    def states(self) -> dict[str, int]:
        left = self.left
        return {state: entered - left[state] for state, entered in self.entered.items()}

    @property
    def done(self) -> bool:
        """Whether none of its tasks is still to be computed."""
        entered, left = self.entered, self.left
        return all(entered[state] == left[state] for state in _TO_COMPUTE)

    def add(self, other: TaskState) -> None:
        """Count a task among this group's."""
        other.group = self
        self.entered[other.state] += 1
        self.count += 1

    def add_type(self, typename: str) -> None:
        """Note the name of the type of a result."""
        self.types.add(typename)

    def update_nbytes(self, diff: int) -> None:
        """Account bytes that its tasks have produced, or less."""
        self.nbytes_total += diff

    def add_duration(self, action: str, start: float, stop: float) -> None:
        """Account seconds spent on one of its tasks."""
        elapsed = stop - start if stop > start else 0.0
        self.duration += elapsed
        self.all_durations[action] = self.all_durations.get(action, 0.0) + elapsed
        if stop > self.stop:
            self.stop = stop
        if not self.start or start < self.start:
            self.start = start


class TaskPrefix(TaskCollection):
    """All groups of one function: it remembers how long that function takes.

    Attributes:
        groups: the groups whose tasks are known.
        duration_average: expected seconds of a task, exponentially weighted to recent ones; -1 while unknown.
        suspicious: how many workers died while they ran tasks of this prefix.
        state_counts: how often its tasks have come into each state so far.
    """

    def __init__(self, name: str, default_duration: float = -1.0) -> None:
        super().__init__(name)
        self.groups: set[TaskGroup] = set()
        self.duration_average = default_duration
        self.max_exec_time = -1.0
        self.suspicious = 0
        #: what `state_counts` was of groups that are gone
        self._past: dict[str, int] = dict.fromkeys(STATES, 0)

    def _sum(self, groups: Iterable[TaskGroup]) -> dict[str, int]:
        totals = dict.fromkeys(STATES, 0)
        for group in groups:
            for state, count in group.states.items():
                totals[state] += count
        return totals

    @property
    def states(self) -> dict[str, int]:
        return self._sum(self.groups)

    @property
    def state_counts(self) -> dict[str, int]:
        """How often tasks have come into each state so far, those that are gone among them."""
        totals = dict(self._past)
        for group in self.groups:
            for state, count in group.entered.items():
                totals[state] += count
        return totals

    @property
    def active(self) -> list[TaskGroup]:
        """Groups with work that is not done."""
        return [group for group in self.groups if not group.done]

    @property
    def active_states(self) -> dict[str, int]:
        return self._sum(self.active)

    @property
    def nbytes_total(self) -> int:  # type: ignore[override]
        return sum(group.nbytes_total for group in self.groups)

    @property
    def duration(self) -> float:  # type: ignore[override]
        return sum(group.duration for group in self.groups)

    @property
    def types(self) -> set[str]:  # type: ignore[override]
        return set().union(*[group.types for group in self.groups])

    @property
    def all_durations(self) -> dict[str, float]:  # type: ignore[override]
        totals: dict[str, float] = {}
        for group in self.groups:
            for action, seconds in group.all_durations.items():
                totals[action] = totals.get(action, 0.0) + seconds
        return totals

    def add_group(self, tg: TaskGroup) -> None:
        """Count a group among this prefix's."""
        self.groups.add(tg)

    def remove_group(self, tg: TaskGroup) -> None:
        """None of the group's tasks is known any more."""
        if tg in self.groups:
            self.groups.discard(tg)
            tg.last_worker = None  # computations keep the group, and are not to keep a worker that has gone
            for state, count in tg.entered.items():
                self._past[state] += count

    def add_duration(self, action: str, start: float, stop: float) -> None:
        """Learn from what one of its tasks took; only computing counts."""
        if action == "compute":
            self.observe(max(0.0, stop - start))

    def add_exec_time(self, duration: float) -> None:
        """A task has been running for so many seconds; one that takes over twice the average makes that longer."""
        self.max_exec_time = max(self.max_exec_time, duration)
        if duration > 2 * self.duration_average >= 0:
            self.observe(duration)

    def observe(self, seconds: float) -> None:
        """Learn from a finished task: the average moves half way to it."""
        average = self.duration_average
        self.duration_average = seconds if average < 0 else 0.5 * (average + seconds)


class TaskTable(dict[Key, TaskState]):
    """All known tasks by key, with their groups and prefixes."""

    def __init__(
        self, default_durations: dict[str, float] | None = None, default_nbytes: int = DEFAULT_DATA_SIZE
    ) -> None:
        super().__init__()
        self.groups: dict[str, TaskGroup] = {}
        self.prefixes: dict[str, TaskPrefix] = {}
        self._default_durations = default_durations or {}
        self._default_nbytes = default_nbytes
        #: what the latest key had before its token, and its group
        self._head = ""
        self._head_group: TaskGroup

    def new(self, key: Key) -> TaskState:
        """Make the record of an unknown key; it is released."""
        group = self._group_of(key)
        task = TaskState(key, group)
        group.entered["released"] += 1
        group.count += 1
        self[key] = task
        return task

    def _group_of(self, key: Key) -> TaskGroup:
        """The group of an unknown key: most times that of the one before, which has the same text before its token."""
        head = ""
        if type(key) is str:
            head, _, token = key.rpartition("-")
            if head and head == self._head and not token.isalpha() and self._head_group.count:
                return self._head_group
            if token.isalpha():
                head = ""
        name = key_group(key)
        group = self.groups.get(name)
        if group is None:
            group = self.new_group(name)
        if head:
            self._head, self._head_group = head, group
        return group

    def new_group(self, name: str) -> TaskGroup:
        prefix_name = key_prefix(name)
        prefix = self.prefixes.get(prefix_name)
        if prefix is None:
            prefix = TaskPrefix(prefix_name, self._default_durations.get(prefix_name, -1.0))
            self.prefixes[prefix_name] = prefix
        group = self.groups[name] = TaskGroup(name, prefix, self._default_nbytes)
        return group

    def forget(self, task: TaskState) -> None:
        """Drop the record of a task, and its group with the group's last task."""
        del self[task.key]
        group = task.group
        group.count -= 1
        if not group.count:
            del self.groups[group.name]
            group.prefix.remove_group(group)


class Computation:
    """What clients submitted while the cluster was busy without a break.

    Attributes:
        id: unique among the computations of this scheduler.
        groups: the groups of its tasks.
        sources: frames of the user's code from which it was submitted, a tuple a submission; see `code`.
    """

    __slots__ = ("annotations", "groups", "id", "sources", "started")

    def __init__(self, identifier: str = "", now: float = 0.0) -> None:
        self.id = identifier or str(uuid.uuid4())
        self.started = now
        self.groups: set[TaskGroup] = set()
        self.sources: set[tuple[SourceCode, ...]] = set()
        self.annotations: dict[str, Any] = {}

    @property
    def code(self) -> list[tuple[SourceCode, ...]]:
        """Frames of the user's code from which it was submitted, outermost first; each submission once, sorted."""
        return sorted(self.sources)

    @property
    def start(self) -> float:
        """When its first task began, in seconds since the epoch (or when it was submitted, before that)."""
        return min((group.start for group in self.groups if group.start), default=self.started)

    @property
    def stop(self) -> float:
        """When its last task so far ended; -1 while none has."""
        return max((group.stop for group in self.groups if group.stop), default=-1)

    @property
    def states(self) -> dict[str, int]:
        totals = dict.fromkeys(STATES, 0)
        for group in self.groups:
            for state, count in group.states.items():
                totals[state] += count
        return totals

    def __iter__(self) -> Iterator[TaskGroup]:
        return iter(self.groups)

    def __repr__(self) -> str:
        return f"<Computation {self.id}: Tasks: {self._counts()}>"

    def _counts(self) -> str:
        return ", ".join(f"{state}: {count}" for state, count in self.states.items() if count)

    def _repr_html_(self) -> str:
        values = {
            "Groups": len(self.groups),
            "Tasks": self._counts() or "none",
            "Seconds": f"{self.stop - self.start:.3g}" if self.stop > 0 else "not done",
        }
        parts: list[Html] = [facts(values)]
        if self.groups:
            parts.append(fold("Groups", join([code(repr(group)) for group in self.groups], "<br>")))
        for frames in self.code:
            text = "\n\n".join(frame.code for frame in frames)
            parts.append(fold("Code", Html(f'<pre style="background:none;color:inherit">{join([text])}</pre>')))
        return card("Computation", join(parts), subtitle=self.id)
