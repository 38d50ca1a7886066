"""Sums of a worker's activities, without a worker."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.messages.spending import name_of, wire_name
from headrace.worker import activity_totals
from headrace.worker.activity_totals import ActivityTotals
from headrace.worker.state.effects import COUNTED, SAMPLED, TIMED, UNTIMED, TaskRun
from headrace.worker.state.tasks import TaskState

HEX = "0123456789abcdef0123456789abcdef"


def run_of(key: Any, expected: float = -1.0, annotations: dict[str, Any] | None = None, needs: int = 0) -> TaskRun:
    task = TaskState(key)
    task.expected = expected
    task.annotations = annotations or {}
    if needs:
        task.dependencies = {TaskState(f"data-{number}") for number in range(needs)}
        for each in task.dependencies:
            each.nbytes = 100
    run = TaskRun(task)
    run.cpu = run.submitted = 0.0
    return run


def executed(totals: ActivityTotals) -> dict[Any, float]:
    return {name[1:]: value for name, value in totals.totals.items()}


def test_how_closely_runs_are_measured() -> None:
    assert run_of("x").timed == TIMED
    assert run_of("x", expected=1.0).timed == TIMED
    assert run_of("x", expected=0.0001).timed == UNTIMED
    assert run_of("x", expected=0.0001, needs=1).timed == COUNTED
    assert run_of("x", expected=0.0001, annotations={"retries": 1}).timed == COUNTED


def test_seconds_add_up() -> None:
    totals = ActivityTotals()
    run = run_of("inc-1", needs=2)
    run.cpu, run.submitted, run.started = 0.25, 5.0, 5.5
    totals.ran(run, seconds=1.0, thread=7, later=0.125)
    assert executed(totals) == {
        (None, "inc", "memory-read", "count"): 2,
        (None, "inc", "memory-read", "bytes"): 200,
        (None, "inc", "thread-cpu", "seconds"): 0.25,
        (None, "inc", "thread-noncpu", "seconds"): 0.75,
        (None, "inc", "executor", "seconds"): 0.5,
        (None, "inc", "other", "seconds"): 0.125,
    }


def test_short_runs_are_like_those_that_are_sampled() -> None:
    totals = ActivityTotals()
    sample = run_of(f"inc-{HEX}", expected=0.0001)
    sample.timed, sample.cpu = SAMPLED, 0.25
    totals.ran(sample, seconds=1.0, thread=7, later=0.125)
    head, sums = totals.group_of(f"inc-{HEX}")
    assert head == "inc"
    sums.short += 2.0
    assert executed(totals) == {
        (None, "inc", "thread-cpu", "seconds"): 0.75,
        (None, "inc", "thread-noncpu", "seconds"): 2.25,
    }
    sums.short += 4.0
    assert executed(totals)[None, "inc", "thread-cpu", "seconds"] == 1.75
    assert totals.group_of("inc-1")[1] is sums, "it is the same group"
    assert totals.group_of("inc-1")[0] is None, "what is before its last letters says nothing"
    assert totals.group_of(("inc-1", 0))[1] is not sums


def test_outside_of_threads_and_what_ends_badly() -> None:
    totals = ActivityTotals()
    totals.ran(run_of("co-1"), seconds=1.0, thread=0, later=0.0)
    failed = run_of("bad-1")
    totals.measure(failed, failed.key, {}, ("wait", 0.5, "seconds"))
    totals.measure(failed, failed.key, {}, ("read", 10, "bytes"))
    assert (None, "bad", "read", "bytes") not in executed(totals), "it has not ended"
    totals.ended_badly(failed, "failed", 2.0)
    assert executed(totals) == {
        (None, "co", "thread-noncpu", "seconds"): 1.0,
        (None, "bad", "read", "bytes"): 10,
        (None, "bad", "failed", "seconds"): 2.0,
    }


def test_what_a_task_measures_is_no_part_of_the_rest() -> None:
    totals = ActivityTotals()
    run = run_of("io-1", expected=0.0001)
    totals.measure(run, run.key, {}, ("I/O", 0.75, "seconds"))
    assert run.timed == COUNTED
    run.timed, run.cpu = SAMPLED, 0.125
    totals.ran(run, seconds=1.0, thread=7, later=0.0)
    assert executed(totals) == {
        (None, "io", "I/O", "seconds"): 0.75,
        (None, "io", "thread-cpu", "seconds"): 0.125,
        (None, "io", "thread-noncpu", "seconds"): 0.125,
    }


def test_spans() -> None:
    totals = ActivityTotals()
    inner = {"span": {"name": ("a", "b"), "ids": ("1", "2")}}
    totals.ran(run_of("x-1", annotations=inner), 1.0, 0, 0.0)
    totals.ran(run_of("x-2", annotations={"span": "mine"}), 2.0, 0, 0.0)
    totals.measure(None, "x-3", inner, (("a", 1), 3, "bytes"))
    assert executed(totals) == {
        ("2", "x", "thread-noncpu", "seconds"): 1.0,
        (None, "x", "thread-noncpu", "seconds"): 2.0,
        ("2", "x", ("a", 1), "bytes"): 3,
    }
    assert totals.since_heartbeat["execute", "x", "thread-noncpu", "seconds"] == 3.0


def test_news_are_told_once() -> None:
    totals = ActivityTotals()
    totals.ran(run_of("x-1"), 1.0, 0, 0.0)
    totals.add("latency", 0.5)
    totals.add_all("get-data", {("network", "seconds"): 2.0})
    told = totals.take_news()
    assert sorted(told, key=len) == [
        ["latency", 0.5],
        [["get-data", "network", "seconds"], 2.0],
        [None, "x", "thread-noncpu", "seconds", 1.0],
    ]
    assert not totals.take_news()
    assert not totals.since_heartbeat
    assert len(totals.totals) == 3
    totals.totals.clear()
    assert not totals.totals


def test_names_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity_totals, "MOST_NAMES", 10)
    monkeypatch.setattr(activity_totals, "MOST_GROUPS", 10)
    totals = ActivityTotals()
    for letter in "abcdefghijklmnopqrst":
        totals.ran(run_of(letter), 1.0, 0, 0.0)
    assert len(totals.take_news()) == 20
    assert [name[2] for name in totals.totals] == list("klmnopqrst")
    totals.ran(run_of("a"), 1.0, 0, 0.0)
    assert totals.take_news() == [[None, "a", "thread-noncpu", "seconds", 1.0]]


def test_names_travel() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    assert name_of(wire_name(("a", (1, None), Odd()))) == ("a", (1, None), "odd")
    assert name_of(wire_name("latency")) == "latency"
