"""Scheduler plugins that keep sets of keys by how far their tasks are, for displays that users write.

Each costs something at every transition. The bars of `progressbar` do not use them: see
`headrace.diagnostics.progress`.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from headrace.common.keys import from_wire, key_group, key_prefix, to_wire
from headrace.diagnostics.plugins.plugin_base import SchedulerPlugin
from headrace.diagnostics.progress.feed import GroupBy
from headrace.diagnostics.progress.watch import grouping
from headrace.scheduler.state.records.tasks import TaskState

if TYPE_CHECKING:
    from headrace import Scheduler

__all__ = ["AllProgress", "GroupTiming", "MultiProgress", "Progress", "dependent_keys", "format_time"]

#: Seconds between two looks at whether the scheduler knows the keys.
_LOOK_INTERVAL = 0.02
_ENDED = ("memory", "erred")


def dependent_keys(tasks: Iterable[TaskState], complete: bool = False) -> tuple[set[Any], set[Any]]:
    """Find the keys of tasks, and of all tasks that they need.

    Args:
        complete: include tasks that are done; else these, and tasks that only they need, are left out.

    Returns:
        All keys, and those of them that erred.
    """
    found: set[Any] = set()
    erred: set[Any] = set()
    stack = list(tasks)
    while stack:
        task = stack.pop()
        key = from_wire(task.key)
        if key in found or (not complete and (task.state == "memory" or (task.state == "released" and task.who_has))):
            continue
        found.add(key)
        if task.state == "erred":
            erred.add(key)
        stack.extend(task._dependencies)
    return found, erred


class Progress(SchedulerPlugin):
    """Follows keys, and those that they need, until all have ended, and is removed from the scheduler then.

    Args:
        keys: keys, or futures.
        scheduler: the scheduler that the plugin is added to in `setup`.
        minimum, dt: accepted for compatibility.
        complete: count tasks that are done already as well.
        name: the plugin's.

    Attributes:
        keys: keys that have not ended.
        all_keys: all keys that are followed, after `setup`.
        status: "finished", "error", or `None` before either.
        extra: the exception and the key of an error.
    """

    def __init__(
        self,
        keys: Iterable[Any],
        scheduler: Scheduler,
        minimum: float = 0,
        dt: float = 0.1,
        complete: bool = False,
        name: str | None = None,
    ) -> None:
        self.name = name or f"progress-{uuid.uuid4().hex}"
        self.keys: Any = {getattr(key, "key", key) for key in keys}
        self.all_keys: Any = set()
        self.scheduler = scheduler
        self.complete = complete
        self.status: str | None = None
        self.extra: dict[str, Any] = {}
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the plugin was made."""
        return time.monotonic() - self._started

    async def setup(self) -> None:
        """Find all that the keys need, and begin to follow; waits for keys that the scheduler does not know yet."""
        known = self.scheduler.tasks
        wanted = [to_wire(key) for key in self.keys]
        while not all(key in known for key in wanted):
            await asyncio.sleep(_LOOK_INTERVAL)
        tasks = [known[key] for key in wanted]
        found, erred = dependent_keys(tasks, self.complete)
        self._begin(found, {key for key in found if self.scheduler.tasks[to_wire(key)].state not in _ENDED})
        if not self._left():
            self.stop(*(("error", next(iter(erred))) if erred else ()))
            return
        self.scheduler.add_plugin(self, name=self.name)
        if erred:
            self.stop("error", next(iter(erred)))

    def _begin(self, found: set[Any], left: set[Any]) -> None:
        self.all_keys, self.keys = found, left

    def _left(self) -> int:
        return len(self.keys)

    def _follows(self, key: object) -> bool:
        return key in self.keys

    def _ends(self, key: object) -> None:
        self.keys.discard(key)

    def transition(self, key: object, start: str, finish: str, *args: object, **kwargs: Any) -> None:
        if finish == "forgotten" and self._follows(key):
            self._ends(key)
        elif finish in _ENDED and self._follows(key):
            self._ends(key)
            if finish == "erred":
                self.stop("error", key)
                return
        else:
            return
        if not self._left():
            self.stop()

    def restart(self, scheduler: Scheduler) -> None:
        self.stop()

    def stop(self, exception: object = None, key: object = None) -> None:
        """End: with an error, that of the task `key` is kept in `extra`."""
        if self.name in self.scheduler.plugins:
            self.scheduler.remove_plugin(name=self.name)
        self.status = "error" if exception else "finished"
        task = self.scheduler.tasks.get(to_wire(key)) if exception and key is not None else None
        if exception:
            # one that only shares another's fate has no exception of its own
            culprit = None if task is None else task.exception_blame or task
            self.extra = {"exception": None if culprit is None else culprit.exception, "key": key}


class MultiProgress(Progress):
    """A `Progress` by group.

    Args:
        group_by: "prefix", "spans" (groups are tuples of a span's tags and its id), or a function of a key that gives
            its group.

    Attributes:
        keys: by group, the keys that have not ended.
        all_keys: by group, all keys that are followed, after `setup`.
    """

    def __init__(
        self,
        keys: Iterable[Any],
        scheduler: Any = None,
        group_by: GroupBy = "prefix",
        minimum: float = 0,
        dt: float = 0.1,
        complete: bool = False,
    ) -> None:
        super().__init__(keys, scheduler, minimum, dt, complete, f"multi-progress-{uuid.uuid4().hex}")
        self.group_by = group_by
        self._group_of: dict[Any, Any] = {}

    def _begin(self, found: set[Any], left: set[Any]) -> None:
        name: Callable[[Any], Any] = self.group_by if callable(self.group_by) else self._named()
        self._group_of = {key: name(key) for key in found}
        groups = dict.fromkeys(self._group_of.values())
        self.all_keys = {group: set() for group in groups}
        self.keys = {group: set() for group in groups}
        for key, group in self._group_of.items():
            self.all_keys[group].add(key)
            if key in left:
                self.keys[group].add(key)

    def _named(self) -> Callable[[Any], Any]:
        group_of, tasks = grouping(self.scheduler, self.group_by), self.scheduler.tasks
        if self.group_by != "spans":
            return lambda key: group_of(tasks[to_wire(key)])
        spans = getattr(self.scheduler.extensions.get("spans"), "spans", {})

        def named(key: Any) -> tuple[Any, ...]:
            """The span's tags, and its id, as others may have the same tags."""
            task = tasks[to_wire(key)]
            span = spans.get(task.group.span_id)
            return (group_of(task),) if span is None else (*span.name, span.id)

        return named

    def _left(self) -> int:
        return sum(map(len, self.keys.values()))

    def _follows(self, key: object) -> bool:
        return key in self._group_of and key in self.keys[self._group_of[key]]

    def _ends(self, key: object) -> None:
        self.keys[self._group_of[key]].discard(key)


class AllProgress(SchedulerPlugin):
    """Keeps all keys of a scheduler by prefix, and by prefix and state.

    Attributes:
        all: {prefix: keys}
        state: {state: {prefix: keys}}
        nbytes: {prefix: bytes in memory}
    """

    name = "all-progress"

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._clear()
        for task in scheduler.tasks.values():
            key, prefix = from_wire(task.key), task.group.prefix.name
            self.all[prefix].add(key)
            self.state[task.state][prefix].add(key)
            if task.state == "memory":
                self.nbytes[prefix] += task.get_nbytes()
        scheduler.add_plugin(self, name=self.name)

    def _clear(self) -> None:
        self.all: defaultdict[str, set[Any]] = defaultdict(set)
        self.nbytes: defaultdict[str, int] = defaultdict(int)
        self.state: defaultdict[str, defaultdict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))

    def transition(self, key: object, start: str, finish: str, *args: object, **kwargs: Any) -> None:
        wire = to_wire(key)
        prefix, task = key_prefix(key_group(wire)), self.scheduler.tasks.get(wire)
        self.all[prefix].add(key)
        self.state[start][prefix].discard(key)
        if start == "memory" and task is not None:
            self.nbytes[prefix] -= task.get_nbytes()
        if finish == "memory" and task is not None:
            self.nbytes[prefix] += task.get_nbytes()
        if finish != "forgotten":
            self.state[finish][prefix].add(key)
            return
        self.all[prefix].discard(key)
        if not self.all[prefix]:
            del self.all[prefix]
            self.nbytes.pop(prefix, None)
            for by_prefix in self.state.values():
                by_prefix.pop(prefix, None)

    def restart(self, scheduler: Scheduler) -> None:
        self._clear()


class GroupTiming(SchedulerPlugin):
    """Seconds that were computed in each interval of time, by prefix, and the threads there were.

    Attributes:
        dt: seconds of an interval; doubled when there would be too many.
        time: the ends of the intervals, in seconds since the epoch.
        compute: {prefix: [seconds of each interval]}
        nthreads: threads of the cluster in each interval.
    """

    name = "group-timing"
    #: Intervals after which two become one.
    LONGEST = 1000

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._clear()
        scheduler.add_plugin(self, name=self.name)

    def _clear(self) -> None:
        now = time.time()
        self.dt = 1.0
        self.time = [now, now]
        self.compute: dict[str, list[float]] = {}
        self.nthreads: list[int] = [self.scheduler.total_nthreads, self.scheduler.total_nthreads]

    def _extend(self, until: float) -> None:
        while self.time[-1] < until:
            if len(self.time) >= self.LONGEST:
                self._halve()
            missing = math.ceil((until - self.time[-1]) / self.dt)
            for _ in range(min(missing, self.LONGEST - len(self.time))):
                self.time.append(self.time[-1] + self.dt)
                self.nthreads.append(self.scheduler.total_nthreads)
                for seconds in self.compute.values():
                    seconds.append(0.0)

    def _halve(self) -> None:
        """Make two intervals one; the first entry is the beginning and stays."""
        self.dt *= 2
        self.time = [self.time[0], *self.time[2::2]]
        self.nthreads = [self.nthreads[0], *self.nthreads[2::2]]
        for name, seconds in self.compute.items():
            pairs = seconds[1:]
            joined = [pairs[i] + pairs[i + 1] for i in range(0, len(pairs) - 1, 2)]
            self.compute[name] = [seconds[0], *joined][: len(self.time)]

    def transition(self, key: object, start: str, finish: str, *args: object, **kwargs: Any) -> None:
        if start != "processing" or finish != "memory":
            return
        spans: Iterable[Mapping[str, Any]] = kwargs.get("startstops") or ()
        for span in spans:
            if span["action"] == "compute":
                self._add(key_prefix(key_group(to_wire(key))), span["start"], span["stop"])

    def _add(self, prefix: str, start: float, stop: float) -> None:
        self._extend(stop)
        seconds = self.compute.get(prefix)
        if seconds is None:
            seconds = self.compute[prefix] = [0.0] * len(self.time)
        place = len(self.time) - 1
        while place > 0 and stop > start:
            begin = max(start, self.time[place - 1])
            if begin < stop:
                seconds[place] += stop - begin
                stop = begin
            place -= 1

    def restart(self, scheduler: Scheduler) -> None:
        self._clear()


def format_time(t: float) -> str:
    """Seconds in words.

    >>> format_time(10.4), format_time(1000.4), format_time(100000.4)
    ('10.4s', '16min 40.4s', '27hr 46min 40.4s')
    """
    minutes, seconds = divmod(t, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:2.0f}hr {minutes:2.0f}min {seconds:4.1f}s"
    if minutes:
        return f"{minutes:2.0f}min {seconds:4.1f}s"
    return f"{seconds:4.1f}s"
