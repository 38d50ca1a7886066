"""Spans: annotations where tasks are made, records at the scheduler that add up."""

from __future__ import annotations

import asyncio
from typing import Any

import dask
import pytest

from headrace import Client, span, wait
from headrace.extensions.spans import Span, SpanMetadata
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.diagnostics.tasks import double, fail


class TestAnnotations:
    """What `span` does without a cluster."""

    def test_nested(self) -> None:
        with span("one", "two") as second:
            around = dask.get_annotations()["span"]
            assert around["name"] == ("one", "two")
            assert around["ids"][-1] == second
            with span("three") as third:
                inner = dask.get_annotations()["span"]
                assert inner["name"] == ("one", "two", "three")
                assert inner["ids"] == (*around["ids"], third)
            assert dask.get_annotations()["span"] == around
        assert "span" not in dask.get_annotations()

    def test_bad_tags(self) -> None:
        with pytest.raises(ValueError, match="at least one"), span():
            pass
        with pytest.raises(TypeError, match="text, not int"), span(1):  # type: ignore[arg-type]
            pass


@gen_cluster(client=True)
async def test_groups_and_figures(c: Client, s: Any, a: Any, b: Any) -> None:
    with span("outer") as outer:
        one = c.map(double, range(4), key="first")
        with span("inner") as inner:
            two = c.map(double, range(3), key="second")
    other = c.submit(double, 1, key="third")
    await wait([*one, *two, other])

    extension = s.extensions["spans"]
    top, below = extension.spans[outer], extension.spans[inner]
    assert (top.name, below.name) == (("outer",), ("outer", "inner"))
    assert below.parent is top
    assert top.parent is None
    assert top.children == [below]
    assert {group.name for group in top.groups} == {"first"}
    assert {group.name for group in top.traverse_groups()} == {"first", "second"}
    assert list(top.traverse_spans()) == [top, below]
    assert (top.states["memory"], below.states["memory"]) == (7, 3)
    assert top.done
    assert top.start <= below.start < below.stop <= top.stop
    assert top.enqueued <= top.start + 1
    assert top.duration > below.duration > 0
    assert top.all_durations["compute"] == pytest.approx(top.duration)
    assert top.nbytes_total == 7 * 28
    assert top.annotation == {"name": ("outer",), "ids": (outer,)}
    assert below.annotation == {"name": ("outer", "inner"), "ids": (outer, inner)}
    assert s.task_groups["second"].span_id == inner
    await asyncio.gather(a.heartbeat(), b.heartbeat())
    for prefix in ("first", "second"):
        assert ("execute", prefix, "thread-cpu", "seconds") in top.cumulative_worker_metrics
    assert ("execute", "first", "thread-cpu", "seconds") not in below.cumulative_worker_metrics
    assert top.nthreads_intervals[0][2] == s.total_nthreads
    assert top.active_cpu_seconds > 0

    (default,) = extension.spans_search_by_name["default",]
    assert {group.name for group in default.groups} == {"third"}
    assert default.annotation is None
    assert s.task_groups["third"].span_id == default.id
    assert extension.root_spans == [top, default]
    assert extension.spans_search_by_tag["outer"] == [top, below]
    assert list(extension.find_by_tags("inner", "outer")) == [top, below], "any of them will do"
    assert list(extension.find_by_tags("inner", "unknown")) == [below]
    assert list(extension.find_by_tags("outer")) == [top, below]
    assert extension.merge_all().states["memory"] == 8
    assert extension.merge_by_tags("outer").states["memory"] == 7, "those within others do not count twice"
    with pytest.raises(ValueError, match="Nothing to merge"):
        extension.merge_by_tags("unknown")


@gen_cluster(client=True)
async def test_collections_and_tasks_that_submit(c: Client, s: Any, a: Any, b: Any) -> None:
    with span("graphs") as number:
        value = dask.delayed(double)(dask.delayed(double)(1, dask_key_name="d-1"), dask_key_name="e-1")
    with span("compute") as other:
        assert await c.compute(value) == 4
    spans = s.extensions["spans"].spans
    assert {group.name for group in spans[number].groups} == {"d", "e"}, "annotations of layers win"
    assert other not in spans or not spans[other].groups


@gen_cluster(client=True)
async def test_failures_and_the_threads_of_workers_that_leave(c: Client, s: Any, a: Any, b: Any) -> None:
    with span("failing") as number:
        future = c.submit(fail, 1)
        await wait(future)
    record = s.extensions["spans"].spans[number]
    assert record.done
    assert record.states["erred"] == 1
    before = s.total_nthreads_history[-1][1]
    await a.close()
    assert s.total_nthreads_history[-1][1] == before - a.nthreads


@gen_cluster(client=True, config={"distributed.diagnostics.computations.max-history": 3})
async def test_old_ones_are_forgotten(c: Client, s: Any, a: Any, b: Any) -> None:
    for number in range(8):
        with span(f"n{number}", "inner"):
            await c.submit(double, number, key=f"k{number}-1")
    extension = s.extensions["spans"]
    assert [each.name for each in extension.root_spans] == [("n5",), ("n6",), ("n7",)]
    assert len(extension.spans) == 6


@gen_cluster(client=True)
async def test_a_loop_of_submissions_is_added_up(c: Client, s: Any, a: Any, b: Any) -> None:
    with span("loop") as number:
        for turn in range(6):
            await c.submit(double, turn, key="same-1")
            await async_poll_for(lambda: "same-1" not in s.tasks, 10)
    record = s.extensions["spans"].spans[number]
    assert len(record.groups) == 2
    assert sum(record.states.values()) == 6
    assert record.nbytes_total == 6 * 28
    assert record.duration == pytest.approx(sum(record.all_durations.values()))
    assert record.start < record.stop
    assert record.done


@gen_cluster(client=True)
async def test_annotations_that_are_no_spans_do_no_harm(c: Client, s: Any, a: Any, b: Any) -> None:
    with dask.annotate(span="nonsense"):
        assert await c.submit(double, 1) == 2
    assert [each.name for each in s.extensions["spans"].spans.values()] == [("default",)]


def test_metadata() -> None:
    record = Span(("a",), "1", None, [])
    record.add_metadata(SpanMetadata(collections=[{"type": "Future"}], note=1))
    record.add_metadata(SpanMetadata(collections=[{"type": "Array"}]))
    assert record.metadata == {"collections": [{"type": "Future"}, {"type": "Array"}], "note": 1}
    assert repr(record) == "Span<name=('a',), id=1>"
    assert record.nthreads_intervals == []


@gen_cluster(client=True, nthreads=[("127.0.0.1", 3)])
async def test_threads_of_a_span_whose_tasks_have_not_begun(c: Client, s: Any, a: Any) -> None:
    with span("waits"):
        waiting = c.submit(double, 1, resources={"nobody's": 1})
    await async_poll_for(lambda: waiting.key in s.tasks, timeout=5)
    (record,) = s.extensions["spans"].spans_search_by_name["waits",]
    assert not record.start
    await async_poll_for(lambda: record.active_cpu_seconds > 0, timeout=5)
    assert [threads for _, _, threads in record.nthreads_intervals] == [3]
