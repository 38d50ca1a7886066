"""Sums of what a worker spends its time on, by activity: runs of tasks, transfers, reading and writing of spilled data.

A short task costs one addition, on the loop, to the sums of its group. What those mean is worked out when somebody
asks: at a heartbeat, or when `totals` is looked at.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Any

from headrace.common.keys import Key, key_group, key_prefix
from headrace.messages.spending import Spent, wire_name

from .state.effects import COUNTED, SAMPLED, TIMED, TaskRun

#: Names of which sums are kept; beyond it the oldest are given up (a program may make up names without end).
MOST_NAMES = 10_000
#: Groups of tasks of which sums are kept between heartbeats.
MOST_GROUPS = 1000


class GroupSums:
    """Runs of the tasks of one group within one span. Written on the loop, without a lock.

    Attributes:
        span_id: of the span that the tasks are annotated with; None without one.
        group: name of the group.
        short: seconds of runs whose use of the processor was not measured.
        sampled, cpu: seconds of runs of which it was, and what they had of the processor; without seconds that the
            tasks have measured themselves.
        elsewhere: seconds of runs on the loop and in other processes.
        reads, read_bytes: values from memory that runs were given.
    """

    __slots__ = ("cpu", "elsewhere", "group", "read_bytes", "reads", "sampled", "short", "span_id", "told")

    def __init__(self, span_id: str | None, group: str) -> None:
        self.span_id = span_id
        self.group = group
        self.short = self.sampled = self.cpu = self.elsewhere = 0.0
        self.reads = self.read_bytes = 0
        #: what `news` has told so far: of `short`, `sampled`, `cpu`, `elsewhere`, `reads` and `read_bytes`
        self.told = (0.0, 0.0, 0.0, 0.0, 0, 0)

    def news(self) -> list[tuple[str, str, float]]:
        """(activity, unit, value) of what has come since the last call.

        Runs that were not measured are taken to use the processor as those do that were.
        """
        now = (self.short, self.sampled, self.cpu, self.elsewhere, self.reads, self.read_bytes)
        if now == self.told:
            return []
        short, sampled, cpu, elsewhere, reads, read_bytes = (new - old for new, old in zip(now, self.told, strict=True))
        self.told = now
        found: list[tuple[str, str, float]] = []
        if reads:
            found += [("memory-read", "count", reads), ("memory-read", "bytes", read_bytes)]
        if short or sampled:
            share = min(1.0, now[2] / now[1]) if now[1] else 1.0
            total = short + sampled
            busy = min(total, cpu + short * share)
            found.append(("thread-cpu", "seconds", busy))
            found.append(("thread-noncpu", "seconds", total - busy + elsewhere))
        elif elsewhere:
            found.append(("thread-noncpu", "seconds", elsewhere))
        return found


class ActivityTotals:
    """The sums of one worker.

    Names are tuples (context, …, activity, unit); of runs ("execute", id of the span or None, prefix, activity, unit).
    Seconds of a context add up to the time that was spent in it, so that inner activities are not counted twice.

    Activities of "execute": `memory-read` (count, bytes), `disk-read` (seconds, count, bytes), `decompress`,
    `deserialize`: what a run needed; `thread-cpu`, `thread-noncpu`: within the function, in a thread (the second also
    on the loop or in another process); `executor`: before a free thread had begun; `other`: on the way back; `failed`,
    `cancelled`: all of a run that ended so; and whatever tasks have measured themselves.

    "gather-dep" is what comes from peers: `network`, `deserialize`, `other`, and all of what was answered `busy` or has
    `failed`. "get-data" is what others are given: `memory-read`, `disk-read`, `decompress`, `serialize`, `compress`,
    `network`. "memory-monitor" is what is spilled: `serialize`, `compress`, `disk-write`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: defaultdict[Any, float] = defaultdict(int)
        self._news: defaultdict[Any, float] = defaultdict(int)
        self._runs: defaultdict[tuple[str | None, str, Hashable, str], float] = defaultdict(int)
        self._groups: dict[tuple[str | None, Key], GroupSums] = {}
        self._plain: dict[str, GroupSums] = {}

    # What happens

    def add(self, name: Any, value: float) -> None:
        """Add to a sum; in any thread."""
        with self._lock:
            self._totals[name] += value
            self._news[name] += value

    def add_all(self, context: str, spent: Spent) -> None:
        """Add what was spent in a context, by (activity, unit); in any thread."""
        for name, value in spent.items():
            self.add((context, *name), value)

    def measure(
        self,
        run: TaskRun | None,
        key: Key,
        annotations: Mapping[str, Any],
        measured: tuple[Hashable, float, str],
    ) -> None:
        """Take what a task has measured itself; in any thread.

        Args:
            run: it counts once this has ended, as what went well or not; None for what is no run, such as an actor.
            key, annotations: the task's.
            measured: label, value and unit.
        """
        label, value, unit = measured
        with self._lock:
            if run is None:
                span_id = _span_id(annotations) if "span" in annotations else None
                self._add_run(span_id, key_group(key), label, unit, value)
            elif hasattr(run, "measures"):
                run.measures.append(measured)
            else:
                run.measures = [measured]
                run.timed = run.timed or COUNTED

    def group_of(self, key: Key) -> tuple[str | None, GroupSums]:
        """The sums of a group, to which the seconds of a run that is not `timed` are added; on the loop.

        Returns:
            what keys of the group have before their last 33 letters, and the sums; None if they do not look so.
        """
        # keys of the client end in 32 hexadecimal letters: what is before them stands for the group
        head = key[:-33] if type(key) is str and key[-33:-32] == "-" else None
        group = head or key_group(key)
        sums = self._plain.get(group)
        if sums is None:
            sums = self._plain[group] = GroupSums(None, key_group(key))
        return head, sums

    def ran(self, run: TaskRun, seconds: float, thread: int, later: float) -> None:
        """A run has returned; on the loop.

        Args:
            seconds: that it took in its thread, or on the loop.
            thread: which one; 0 for none of this process.
            later: seconds since then.
        """
        sums = self._sums(run)
        if run.dependencies is not None:
            self._note_data(run, sums)
        if hasattr(run, "measures"):
            seconds = self._note_measures(run, sums, seconds)
        if not thread:
            sums.elsewhere += seconds
        elif run.timed >= SAMPLED:
            sums.cpu += min(seconds, run.cpu)
            sums.sampled += seconds
            if run.timed == TIMED and run.submitted:
                self._add(sums, "executor", max(0.0, run.started - run.submitted))
                self._add(sums, "other", max(0.0, later))
        else:
            sums.short += seconds

    def ended_badly(self, run: TaskRun, label: str, seconds: float) -> None:
        """A run has failed, or was cancelled; on the loop. Seconds that it has measured are among these."""
        sums = self._sums(run)
        if run.dependencies is not None:
            self._note_data(run, sums)
        for measured, value, unit in getattr(run, "measures", ()):
            if unit != "seconds":
                self._add(sums, measured, value, unit)
        self._add(sums, label, max(0.0, seconds))

    def _sums(self, run: TaskRun) -> GroupSums:
        key, annotations = run.key, run.annotations
        if annotations and "span" in annotations:
            return self._sums_in(_span_id(annotations), key)
        return self.group_of(key)[1]

    def _sums_in(self, span_id: str | None, key: Key) -> GroupSums:
        group = key_group(key)
        sums = self._groups.get((span_id, group))
        if sums is None:
            sums = self._groups[span_id, group] = GroupSums(span_id, group)
        return sums

    def _note_data(self, run: TaskRun, sums: GroupSums) -> None:
        count, nbytes = len(run.dependencies or ()), run.needed_bytes
        if run.loading is not None:
            for (activity, unit), value in run.spent.items():
                self._add(sums, activity, value, unit)
            count -= run.loaded[0]
            nbytes -= run.loaded[1]
        sums.reads += count
        sums.read_bytes += nbytes

    def _note_measures(self, run: TaskRun, sums: GroupSums, seconds: float) -> float:
        """Count what a run has measured; returns the seconds that are left."""
        for label, value, unit in run.measures:
            self._add(sums, label, value, unit)
            if unit == "seconds":
                seconds -= value
        return max(0.0, seconds)

    def _add(self, sums: GroupSums, activity: Hashable, value: float, unit: str = "seconds") -> None:
        with self._lock:
            self._add_run(sums.span_id, sums.group, activity, unit, value)

    def _add_run(self, span_id: str | None, group: str, activity: Hashable, unit: str, value: float) -> None:
        """With the lock."""
        self._runs[span_id, group, activity, unit] += value
        self._totals["execute", span_id, key_prefix(group), activity, unit] += value

    # What is told

    @property
    def totals(self) -> defaultdict[Any, float]:
        """All sums by name, since the worker's start or since somebody cleared them."""
        with self._lock:
            self._fold()
        return self._totals

    @property
    def since_heartbeat(self) -> dict[Any, float]:
        """What has come since the last heartbeat; runs by ("execute", prefix, activity, unit)."""
        with self._lock:
            self._fold()
            found: defaultdict[Any, float] = defaultdict(int, self._news)
            for (_, group, activity, unit), value in self._runs.items():
                found["execute", key_prefix(group), activity, unit] += value
        return found

    def take_news(self) -> list[Any]:
        """What has come since the last call, for the scheduler.

        Returns:
            [id of the span or None, group, parts of the activity's name, unit, sum] of runs; [parts of the name, sum]
            of all else. A name of one text is that text.
        """
        with self._lock:
            self._fold()
            runs, self._runs = self._runs, defaultdict(int)
            news, self._news = self._news, defaultdict(int)
            if len(self._plain) + len(self._groups) > MOST_GROUPS:
                self._plain.clear()
                self._groups.clear()
            while len(self._totals) > MOST_NAMES:
                del self._totals[next(iter(self._totals))]
        told: list[Any] = [
            [span_id, group, wire_name(activity), unit, total]
            for (span_id, group, activity, unit), total in runs.items()
        ]
        return told + [[wire_name(name), total] for name, total in news.items()]

    def _fold(self) -> None:
        """Count the groups' sums in. With the lock."""
        for sums in (*list(self._plain.values()), *list(self._groups.values())):
            for activity, unit, value in sums.news():
                self._add_run(sums.span_id, sums.group, activity, unit, value)


def _span_id(annotations: Mapping[str, Any]) -> str | None:
    try:
        return str(annotations["span"]["ids"][-1])
    except (TypeError, KeyError, IndexError):  # an annotation of the user's own
        return None
