"""TaskGroup and TaskPrefix: totals over tasks whose keys begin alike, kept up to date while tasks move.

A group counts its own tasks; a prefix sums up its groups when it is asked, and learns how long its function takes.
Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .tasks import STATES

if TYPE_CHECKING:
    from .tasks import TaskState
    from .workers import WorkerState

#: A group with tasks in one of these has work left.
_TO_COMPUTE = ("released", "waiting", "no-worker", "queued", "processing")
#: Assumed for a result of unknown size when it has to be weighed, in bytes, unless the options say otherwise.
DEFAULT_DATA_SIZE = 1024


class TaskCollection:
    """Totals over tasks: the part that groups and prefixes share."""

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
        recomputed: how often a result came that had been computed before, and was lost or released since.
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
        "recomputed",
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
        self.recomputed = 0
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
        #: the same of `seconds_spent` and of `recomputed`
        self._past_seconds: dict[str, float] = {}
        self._past_recomputed = 0

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
        """Number of times that tasks, forgotten ones among them, have come into each state so far."""
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

    @property
    def seconds_spent(self) -> dict[str, float]:
        """Seconds spent on tasks so far by action; other than `all_durations`, on forgotten ones as well."""
        totals = dict(self._past_seconds)
        for group in self.groups:
            for action, seconds in group.all_durations.items():
                totals[action] = totals.get(action, 0.0) + seconds
        return totals

    @property
    def recomputed(self) -> int:
        """How often a result came that had been computed before, of forgotten tasks as well."""
        return self._past_recomputed + sum([group.recomputed for group in self.groups])

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
            for action, seconds in tg.all_durations.items():
                self._past_seconds[action] = self._past_seconds.get(action, 0.0) + seconds
            self._past_recomputed += tg.recomputed

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
