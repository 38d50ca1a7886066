"""The scheduler's half of spans: it puts groups of tasks into the spans that they belong to.

The core tells of a group when it appears with a `span` annotation. Tasks without one cost nothing: groups in no span
are found, when somebody looks, through the computations that the scheduler keeps anyway.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from headrace import config
from headrace.common.keys import key_prefix
from headrace.messages.spending import name_of
from headrace.scheduler.shell import HasShell, Shell, shell_of
from headrace.scheduler.state.records.groups import TaskGroup
from headrace.scheduler.state.records.tasks import TaskState

from .records import Span, SpanMetadata

#: Names of which sums are kept; beyond it the oldest are given up (a program may make up names without end).
MOST_NAMES = 10_000


class SpansSchedulerExtension:
    """The spans of a scheduler.

    Kept are the latest outermost ones (`distributed.diagnostics.computations.max-history` of them) with all within
    them, and those that have not ended.

    Attributes:
        scheduler: the public Scheduler.
        cumulative_worker_metrics: what all workers have told of their activities: of tasks by ("execute", prefix,
            activity, unit), of transfers by ("gather-dep" or "get-data", activity, unit), and so on.
    """

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self._shell = shell_of(scheduler)
        self.scheduler = self._shell.facade
        self._kept = int(config.get("distributed.diagnostics.computations.max-history", 100))
        self._spans: dict[str, Span] = {}
        self._root_spans: list[Span] = []
        self._defaults: dict[str, Span] = {}
        self.cumulative_worker_metrics: dict[Any, float] = defaultdict(float)
        self._shell.core.span_observer = self._observe

    def _threads(self) -> list[tuple[float, int]]:
        return list(self._shell.core.total_nthreads_history)

    # Records

    @property
    def spans(self) -> dict[str, Span]:
        """All spans by id, default ones included."""
        self._find_defaults()
        return self._spans

    @property
    def root_spans(self) -> list[Span]:
        """The outermost spans, oldest first."""
        self._find_defaults()
        return self._root_spans

    @property
    def spans_search_by_name(self) -> dict[tuple[str, ...], list[Span]]:
        """Spans by their full name, oldest first."""
        found: dict[tuple[str, ...], list[Span]] = defaultdict(list)
        for each in self.spans.values():
            found[each.name].append(each)
        return found

    @property
    def spans_search_by_tag(self) -> dict[str, list[Span]]:
        """Spans by each tag of their full names, oldest first."""
        found: dict[str, list[Span]] = defaultdict(list)
        for each in self.spans.values():
            for tag in dict.fromkeys(each.name):
                found[tag].append(each)
        return found

    def find_by_tags(self, *tags: str) -> Iterable[Span]:
        """Spans that have any of these tags, those around others before them."""
        wanted = set(tags)
        found = [each for each in self.spans.values() if not wanted.isdisjoint(each.name)]
        return iter(sorted(found, key=lambda each: len(each.name)))

    def merge_all(self) -> Span:
        """All spans as one.

        Raises:
            ValueError: there is none.
        """
        return Span.merge(*self.root_spans)

    def merge_by_tags(self, *tags: str) -> Span:
        """All spans that have any of these tags as one.

        Raises:
            ValueError: there is none.
        """
        return Span.merge(*self.find_by_tags(*tags))

    # Events

    def _observe(self, group: TaskGroup, annotation: Any, code: Iterable[tuple[Any, ...]]) -> None:
        """A group of tasks has come with an annotation; called by the state, once a group and message."""
        if group.span_id is not None:
            return
        span = self._ensure(annotation)
        if span is not None:
            span.add_group(group)
            span._code.update(dict.fromkeys(code))
            group.span_id = span.id

    def observe_tasks(
        self, tss: Iterable[TaskState], code: Iterable[tuple[Any, ...]], span_metadata: SpanMetadata
    ) -> dict[Any, dict[str, Any]]:
        """Put the groups of tasks that have come into spans.

        Returns:
            By key, the annotation of tasks that came without one.
        """
        added: dict[Any, dict[str, Any]] = {}
        for task in tss:
            annotation = task.annotations.get("span")
            if annotation:
                self._observe(task.group, annotation, code)
                span = self._spans.get(task.group.span_id or "")
                if span is not None:
                    span.add_metadata(span_metadata)
        return added

    def heartbeat(self, ws: object, data: Iterable[Any]) -> None:
        """Add up what a worker has told of its activities.

        Args:
            data: [id of the span or None, group, activity, unit, sum] of runs; [name, sum] of all else.
        """
        if not data:
            return
        self._find_defaults()
        totals = self.cumulative_worker_metrics
        for told in data:
            if len(told) == 2:
                totals[name_of(told[0])] += told[1]
                continue
            span_id, group_name, activity, unit, value = told
            name = ("execute", key_prefix(group_name), name_of(activity), unit)
            totals[name] += value
            group = self._shell.core.tasks.groups.get(group_name)
            span = self._spans.get(span_id or (group.span_id if group is not None else None) or "")
            if span is not None:
                span.measured[name] += value
        while len(totals) > MOST_NAMES:
            del totals[next(iter(totals))]

    def _ensure(self, annotation: Any) -> Span | None:
        """The innermost span of an annotation, made with those around it; None if that is not one."""
        try:
            names, ids = list(map(str, annotation["name"])), list(map(str, annotation["ids"]))
        except (TypeError, KeyError):
            return None
        parent: Span | None = None
        for depth, identifier in enumerate(ids[: len(names)], 1):
            span = self._spans.get(identifier)
            if span is None:
                span = Span(tuple(names[:depth]), identifier, parent, self._threads)
                self._spans[identifier] = span
                (self._root_spans if parent is None else parent.children).append(span)
                if parent is None:
                    self._forget_old()
            parent = span
        return parent

    def _forget_old(self) -> None:
        """Keep as many as configured, and those that have not ended."""
        excess = len(self._root_spans) - max(1, self._kept)
        for span in self._root_spans[: max(0, excess)]:
            if span.done:
                self._root_spans.remove(span)
                for each in span.traverse_spans():
                    self._spans.pop(each.id, None)

    def _find_defaults(self) -> None:
        """A default span for each computation with groups that are in no span."""
        computations = list(self._shell.core.computations)
        for computation in computations:
            groups = {group for group in computation.groups if group.span_id is None}
            if not groups:
                continue
            span = self._defaults.get(computation.id)
            if span is None:
                span = Span(("default",), str(uuid.uuid4()), None, self._threads)
                span.enqueued = computation.started
                self._defaults[computation.id] = self._spans[span.id] = span
                self._root_spans.append(span)
            span.groups |= groups
            span._code.update(dict.fromkeys(computation.code))
            for group in groups:
                group.span_id = span.id
        gone = self._defaults.keys() - {computation.id for computation in computations}
        for name in gone:
            self._defaults.pop(name)
        if gone:
            self._forget_old()
