"""Counting by group, on a scheduler's state without a scheduler."""

from __future__ import annotations

import random

import pytest

from headrace.diagnostics.progress.tally import (
    ERRORS,
    GROUPS,
    OTHERS,
    Tally,
)
from headrace.scheduler.state.records.tasks import TaskState
from tests.scheduler.state.drive import Cluster


def prefix(task: TaskState) -> str:
    return task.group.prefix.name


def watch(cluster: Cluster, *keys: str, complete: bool = True, last: bool = True) -> Tally:
    tally = Tally(prefix, complete, lambda: None)
    cluster.state.observers = (tally.observe,)
    tally.want(keys, cluster.state.tasks)
    look(tally)
    if last:
        tally.give_up_coming()
    return tally


def look(tally: Tally) -> None:
    while tally.take_arrived(2):
        pass


def numbers(tally: Tally) -> dict[str, tuple[int, ...]]:
    """total, done, erred, lost by group"""
    look(tally)
    return {group.name: (group.total, group.done, group.erred, group.lost) for group in tally.groups.values()}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_counts_what_is_wanted_and_what_that_needs(cluster: Cluster) -> None:
    alice = cluster.add_client()
    cluster.submit(alice, {"load-1": [], "load-2": [], "sum-1": ["load-1", "load-2"], "other-1": []}, wanted=["sum-1"])
    tally = watch(cluster, "sum-1")
    assert numbers(tally) == {"sum": (1, 0, 0, 0), "load": (2, 0, 0, 0)}
    assert tally.groups["load"].processing == 2
    cluster.run_one("tcp://w0:1")
    assert numbers(tally)["load"] == (2, 1, 0, 0)
    assert tally.groups["load"].processing == 1
    assert not tally.finished
    cluster.run_all()
    assert numbers(tally) == {"sum": (1, 1, 0, 0), "load": (2, 2, 0, 0)}
    assert tally.finished


@pytest.mark.parametrize("complete", [True, False])
def test_what_was_done_before_counts_if_it_is_asked_for(cluster: Cluster, complete: bool) -> None:
    alice = cluster.add_client()
    cluster.submit(alice, {"a-1": []})
    cluster.run_all()
    cluster.submit(alice, {"b-1": ["a-1"]})
    tally = watch(cluster, "a-1", "b-1", complete=complete)
    assert numbers(tally) == ({"a": (1, 1, 0, 0)} if complete else {}) | {"b": (1, 0, 0, 0)}
    assert [group.before for group in tally.groups.values()] == ([0, 1] if complete else [0])
    cluster.run_all()
    assert tally.finished


def test_an_error_is_told_once_with_the_task_that_failed(cluster: Cluster) -> None:
    alice = cluster.add_client()
    cluster.submit(alice, {"a-1": [], "b-1": ["a-1"], "c-1": ["b-1"]}, wanted=["c-1"])
    tally = watch(cluster, "c-1")
    cluster.run_one("tcp://w0:1", fail=True) or cluster.run_one("tcp://w1:1", fail=True)
    assert numbers(tally) == dict.fromkeys("abc", (1, 0, 1, 0))
    assert tally.snapshot(0)["errors"] == {"a": [("a-1", "boom")]}
    assert tally.finished


def test_errors_are_told_also_when_they_are_older_than_the_watch(cluster: Cluster) -> None:
    alice = cluster.add_client()
    cluster.submit(alice, {"a-1": [], "b-1": ["a-1"]})
    cluster.run_one("tcp://w0:1", fail=True) or cluster.run_one("tcp://w1:1", fail=True)
    tally = watch(cluster, "b-1")
    assert tally.snapshot(0)["errors"] == {"a": [("a-1", "boom")]}
    assert tally.finished


def test_errors_of_a_group_are_bounded(cluster: Cluster) -> None:
    alice = cluster.add_client()
    keys = [f"a-{number}" for number in range(20)]
    cluster.submit(alice, {key: [] for key in keys})
    tally = watch(cluster, *keys)
    while any(cluster.run_one(address, fail=True) for address in list(cluster.inbox)):
        pass
    assert numbers(tally) == {"a": (20, 0, 20, 0)}
    assert len(tally.snapshot(0)["errors"]["a"]) == ERRORS


def test_a_retried_task_is_pending_again(cluster: Cluster) -> None:
    alice = cluster.add_client()
    cluster.submit(alice, {"a-1": []})
    tally = watch(cluster, "a-1")
    cluster.run_one("tcp://w0:1", fail=True) or cluster.run_one("tcp://w1:1", fail=True)
    assert tally.finished
    cluster.state.retry(["a-1"], cluster.now)
    cluster.drain()
    assert numbers(tally) == {"a": (1, 0, 0, 0)}
    assert tally.snapshot(0)["errors"] == {}
    assert not tally.finished
    cluster.run_all()
    assert numbers(tally) == {"a": (1, 1, 0, 0)}


def test_a_wanted_result_that_is_lost_is_pending_again(cluster: Cluster) -> None:
    alice = cluster.add_client()
    cluster.submit(alice, {"a-1": [], "b-1": []})
    tally = watch(cluster, "a-1", "b-1")
    first = cluster.run_one("tcp://w0:1")
    assert first is not None
    cluster.remove_worker("tcp://w0:1")
    assert sum(done for _, done, _, _ in numbers(tally).values()) == 0
    cluster.run_all()
    assert numbers(tally) == {"a": (1, 1, 0, 0), "b": (1, 1, 0, 0)}


def test_cancelled_tasks_are_lost(cluster: Cluster) -> None:
    alice = cluster.add_client()
    cluster.submit(alice, {"a-1": [], "b-1": ["a-1"]}, wanted=["b-1"])
    tally = watch(cluster, "b-1")
    cluster.cancel(alice, ["b-1"])
    assert numbers(tally)["b"] == (1, 0, 0, 1)
    assert tally.finished


def test_tasks_that_come_later_are_counted_when_they_come(cluster: Cluster) -> None:
    alice = cluster.add_client()
    tally = watch(cluster, "b-1", "c-1", last=False)
    assert tally.snapshot(0)["coming"] == 2
    cluster.submit(alice, {"a-1": [], "b-1": ["a-1"]}, wanted=["b-1"])
    assert numbers(tally) == {"b": (1, 0, 0, 0), "a": (1, 0, 0, 0)}
    assert tally.snapshot(0)["coming"] == 1
    cluster.run_all()
    assert not tally.finished, "one may still come"
    tally.give_up_coming()
    assert tally.finished
    assert numbers(tally) == {"b": (1, 1, 0, 0), "a": (1, 1, 0, 0), "c": (1, 0, 0, 1)}


def test_nothing_wanted_is_finished_once_that_is_said(cluster: Cluster) -> None:
    tally = watch(cluster, last=False)
    assert not tally.finished
    tally.give_up_coming()
    assert tally.finished


def test_groups_are_bounded(cluster: Cluster) -> None:
    alice = cluster.add_client()
    keys = [f"group{chr(97 + number % 26)}{chr(97 + number // 26)}-1" for number in range(GROUPS + 7)]
    cluster.submit(alice, {key: [] for key in keys})
    found = numbers(watch(cluster, *keys))
    assert len(found) == GROUPS + 1
    assert found[OTHERS][0] == 7


def test_tasks_of_others_change_nothing(cluster: Cluster) -> None:
    alice = cluster.add_client()
    changes: list[int] = []
    tally = Tally(prefix, True, lambda: changes.append(1))
    cluster.state.observers = (tally.observe,)
    cluster.submit(alice, {"x-1": []})
    cluster.run_all()
    assert not changes
    assert not tally.groups


@pytest.mark.parametrize("seed", range(30))
def test_random_events_leave_true_counts(seed: int) -> None:
    draw = random.Random(seed)
    cluster = Cluster(workers=3)
    alice = cluster.add_client()
    graph: dict[str, list[str]] = {}
    for number in range(30):
        names = list(graph)
        graph[f"{draw.choice('abc')}-{number}"] = draw.sample(names, min(len(names), draw.randrange(3)))
    wanted = draw.sample(list(graph), 8)
    tally = watch(cluster, *wanted, last=False)
    cluster.submit(alice, graph, wanted=wanted)
    tally.give_up_coming()
    look(tally)
    for _ in range(300):
        event = draw.random()
        address = draw.choice(list(cluster.inbox))
        if event < 0.85:
            cluster.run_one(address, fail=draw.random() < 0.05, choose=draw)
        elif event < 0.9 and len(cluster.inbox) > 1:
            cluster.remove_worker(address, expected=True)
            cluster.add_worker(f"tcp://n{draw.random()}:1")
        elif event < 0.95:
            cluster.state.retry([key for key in wanted if draw.random() < 0.5], cluster.now)
            cluster.drain()
        if draw.random() < 0.2:
            look(tally)
    cluster.run_all()
    assert tally.finished
    tasks = cluster.state.tasks
    counted = numbers(tally)
    assert sum(erred for *_, erred, _ in counted.values()) <= sum(task.state == "erred" for task in tasks.values())
    for name, group in tally.groups.items():
        assert group.processing == 0, name
        assert group.total >= group.done + group.erred + group.lost, name
    assert all(tasks[key].state in ("memory", "erred") for key in wanted)
