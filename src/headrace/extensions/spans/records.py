"""Records of spans at the scheduler. A span holds groups of tasks; its figures are added up when asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from time import time
from typing import Any

from headrace.scheduler.state.records.groups import TaskGroup, TaskPrefix
from headrace.scheduler.state.records.tasks import STATES


class SpanMetadata(dict[str, Any]):
    """Descriptions that users gave of a span; `collections` is a list of dictionaries."""


class PastGroups:
    """Groups of one name whose tasks are all forgotten, added up: a loop of submissions makes many.

    Has the attributes of a `TaskGroup` that spans read.
    """

    done = True

    def __init__(self, name: str, prefix: TaskPrefix) -> None:
        self.name = name
        self.prefix = prefix
        self.counts = dict.fromkeys(STATES, 0)
        self.types: set[str] = set()
        self.nbytes_total = 0
        self.duration = 0.0
        self.all_durations: dict[str, float] = defaultdict(float)
        self.start = 0.0
        self.stop = 0.0

    @property
    def states(self) -> dict[str, int]:
        """The number of tasks that ended in each state."""
        return self.counts

    def add(self, group: TaskGroup) -> None:
        """Add one more."""
        for state, count in group.states.items():
            self.counts[state] += count
        self.types |= group.types
        self.nbytes_total += group.nbytes_total
        self.duration += group.duration
        for action, seconds in group.all_durations.items():
            self.all_durations[action] += seconds
        self.start = min(filter(None, (self.start, group.start)), default=0.0)
        self.stop = max(self.stop, group.stop)

    def __repr__(self) -> str:
        return f"<PastGroups {self.name}: {self.counts['forgotten']} tasks>"


class Span:
    """A part of a workflow: the tasks that were made in one `span` context, or beside all of them ("default").

    Args:
        name: its tags with those around it, outermost first.
        id_: unique.
        parent: the span around it.
        total_nthreads_history: (seconds since the epoch, threads of the cluster from then on), oldest first; or a
            function that tells it.

    Attributes:
        children: spans within it, oldest first.
        groups: groups of its own tasks; `traverse_groups` has those of its children, too.
        enqueued: the time at which its first task came, in seconds since the epoch.
    """

    def __init__(
        self,
        name: tuple[str, ...],
        id_: str,
        parent: Span | None,
        total_nthreads_history: Sequence[tuple[float, int]] | Callable[[], Sequence[tuple[float, int]]],
    ) -> None:
        self.name = name
        self.id = id_
        self._parent = parent
        self.children: list[Span] = []
        self.groups: set[TaskGroup | PastGroups] = set()
        self._latest: dict[str, TaskGroup] = {}
        self._past: dict[str, PastGroups] = {}
        self.enqueued = time()
        self._metadata = SpanMetadata()
        self._code: dict[tuple[Any, ...], None] = {}
        self._threads = total_nthreads_history
        #: what workers have spent on its tasks, by ("execute", prefix, activity, unit)
        self.measured: dict[tuple[Any, ...], float] = defaultdict(float)

    def __repr__(self) -> str:
        return f"Span<name={self.name}, id={self.id}>"

    @property
    def parent(self) -> Span | None:
        """The span around it, if there is one."""
        return self._parent

    def add_group(self, group: TaskGroup) -> None:
        """Tasks of a new group have come: one of its name before it, if forgotten, is only a part of a sum now."""
        old = self._latest.get(group.name)
        if old is not None and old is not group and not old.count:
            past = self._past.get(group.name)
            if past is None:
                past = self._past[group.name] = PastGroups(group.name, group.prefix)
                self.groups.add(past)
            past.add(old)
            self.groups.discard(old)
        self._latest[group.name] = group
        self.groups.add(group)

    @property
    def annotation(self) -> dict[str, tuple[str, ...]] | None:
        """The annotation of the tasks in this span; None for a default span."""
        if self.name == ("default",):
            return None
        ids: list[str] = []
        node: Span | None = self
        while node is not None:
            ids.append(node.id)
            node = node.parent
        return {"name": self.name, "ids": tuple(reversed(ids))}

    @property
    def metadata(self) -> SpanMetadata:
        """Descriptions that users gave of this span."""
        return self._metadata

    def add_metadata(self, metadata: SpanMetadata) -> None:
        """Add to the descriptions of this span; collections are appended."""
        for name, value in metadata.items():
            if name == "collections":
                self._metadata.setdefault(name, []).extend(value)
            else:
                self._metadata[name] = value

    @property
    def code(self) -> list[tuple[Any, ...]]:
        """Frames of the user's code from which its tasks were submitted, each submission once."""
        return list(dict.fromkeys(frames for each in self.traverse_spans() for frames in each._code))

    def traverse_spans(self) -> Iterator[Span]:
        """Iterate over this span and all below it."""
        yield self
        for child in self.children:
            yield from child.traverse_spans()

    def traverse_groups(self) -> Iterator[TaskGroup | PastGroups]:
        """The groups of this one and of all below it."""
        for each in self.traverse_spans():
            yield from each.groups

    @property
    def states(self) -> dict[str, int]:
        """The number of tasks of this span in each state."""
        totals = dict.fromkeys(STATES, 0)
        for group in self.traverse_groups():
            for state, count in group.states.items():
                totals[state] += count
        return totals

    @property
    def done(self) -> bool:
        """True once no task of this span is still to be computed."""
        return all(group.done for group in self.traverse_groups())

    @property
    def start(self) -> float:
        """The time at which its first task began, in seconds since the epoch; 0 before that."""
        return min((group.start for group in self.traverse_groups() if group.start), default=0.0)

    @property
    def stop(self) -> float:
        """The time at which its last task ended; now, while there are some to be computed."""
        if not self.done:
            return time()
        last = max((group.stop for group in self.traverse_groups() if group.stop), default=0.0)
        return last or self.enqueued

    @property
    def nbytes_total(self) -> int:
        """Bytes that its tasks have produced."""
        return sum(group.nbytes_total for group in self.traverse_groups())

    @property
    def duration(self) -> float:
        """Seconds spent on its tasks, all actions and workers together."""
        return sum(group.duration for group in self.traverse_groups())

    @property
    def all_durations(self) -> dict[str, float]:
        """The same by action: compute, transfer, load."""
        totals: dict[str, float] = defaultdict(float)
        for group in self.traverse_groups():
            for action, seconds in group.all_durations.items():
                totals[action] += seconds
        return dict(totals)

    @property
    def cumulative_worker_metrics(self) -> dict[tuple[Any, ...], float]:
        """What workers have spent on its tasks, by ("execute", prefix, activity, unit), its children's included.

        Workers tell it with their heartbeats. Among the activities are "thread-cpu" and "thread-noncpu", and what tasks
        have measured themselves with `distributed.metrics.context_meter`; seconds of that are in none of the others.
        Seconds that the threads of the cluster had beside are those of the prefix "N/A".
        """
        totals: dict[tuple[Any, ...], float] = defaultdict(float)
        for each in self.traverse_spans():
            for name, value in each.measured.items():
                totals[name] += value
        used = sum(value for name, value in totals.items() if name[-1] == "seconds")
        totals["execute", "N/A", "idle or other spans", "seconds"] = max(0.0, self.active_cpu_seconds - used)
        return dict(totals)

    @property
    def nthreads_intervals(self) -> list[tuple[float, float, int]]:
        """Threads of the cluster while this span was active: (from, to, threads)."""
        begin, end = self.enqueued, self.stop
        history = [*(self._threads() if callable(self._threads) else self._threads), (float("inf"), 0)]
        found = []
        for (since, threads), (until, _) in pairwise(history):
            low, high = max(begin, since), min(end, until)
            if threads and high > low:
                found.append((low, high, threads))
        return found

    @property
    def active_cpu_seconds(self) -> float:
        """Seconds that all threads of the cluster had while this was active, whoever used them."""
        return sum((stop - start) * threads for start, stop, threads in self.nthreads_intervals)

    @staticmethod
    def merge(*items: Span) -> Span:
        """A span that stands for several, as their parent; it is not recorded anywhere.

        Raises:
            ValueError: there is none.
        """
        if not items:
            raise ValueError("Nothing to merge")
        names = {item.name for item in items}
        merged = Span(names.pop() if len(names) == 1 else ("(merged)",), "(merged)", None, items[0]._threads)
        merged.children.extend(_apart(items))
        merged.enqueued = min(item.enqueued for item in items)
        return merged


def _apart(items: Iterable[Span]) -> list[Span]:
    """Spans without those that are within others of them, which would count twice."""
    chosen = list(dict.fromkeys(items))
    inner = {below for item in chosen for below in list(item.traverse_spans())[1:]}
    return [item for item in chosen if item not in inner]
