"""Submissions: refused whole or taken whole, in parts, with priorities."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.messages.base import TaskOptions
from headrace.messages.client import GraphRefused, SubmitGraph
from headrace.messages.worker import ComputeTask
from tests.scheduler.state.drive import Cluster


def test_results_reach_the_client_and_intermediates_are_freed() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": ["a"], "c": ["b"]}, ["c"])
    assert cluster.run_all() == ["a", "b", "c"]
    assert cluster.heard["alice"] == {"c": "finished"}
    assert {key: task.state for key, task in cluster.state.tasks.items()} == {
        "a": "released",
        "b": "released",
        "c": "memory",
    }
    cluster.release(alice, ["c"])
    assert not cluster.state.tasks


BAD: dict[str, dict[str, Any]] = {
    "no function": {"functions": []},
    "arguments": {"arguments": [b""]},
    "calls": {"calls": [0, 1]},
    "short calls": {"calls": [0]},
    "rank": {"rank": [1]},
    "options": {"options": [TaskOptions()], "option_of": [0, 2]},
    "wanted": {"wanted": [2]},
    "itself": {"dependencies": [[0], []]},
    "cycle": {"dependencies": [[1], [0]]},
    "beyond": {"dependencies": [[], [7]]},
    "negative": {"dependencies": [[], [-1]]},
}


@pytest.mark.parametrize("columns", BAD.values(), ids=BAD)
def test_bad_submissions_leave_no_trace_but_the_refusal(columns: dict[str, Any]) -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    good: dict[str, Any] = {"functions": [b"f"], "keys": ["x", "y"], "arguments": [b"", b""]}
    cluster.state.handle(alice, SubmitGraph(1, **{**good, **columns}), 0.0)
    cluster.drain()
    assert not cluster.state.tasks
    (answer,) = cluster.messages["alice"]
    assert isinstance(answer, GraphRefused)
    assert answer.keys == ["x", "y"]
    assert answer.message


def test_unknown_dependency_cancels_with_its_name() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    cluster.submit(alice, {"x": ["gone"]})
    assert cluster.heard["alice"] == {"x": "cancelled"}
    assert cluster.messages["alice"][0].reason == "lost dependencies"
    assert "'gone'" in cluster.messages["alice"][0].text
    assert not cluster.state.tasks


def test_parts_of_a_graph_are_kept_until_the_last() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": []}, [], number=7, more=True)
    assert sorted(cluster.run_all()) == ["a", "b"]
    assert {task.state for task in cluster.state.tasks.values()} == {"memory"}
    assert not cluster.messages["alice"], "nobody wants to hear of what is only held"
    cluster.submit(alice, {"c": ["a", "b"]}, ["c"], number=7)
    cluster.run_all()
    assert cluster.heard["alice"] == {"c": "finished"}
    assert cluster.state.tasks["a"].state == "released"
    cluster.release(alice, ["c"])
    assert not cluster.state.tasks


def test_client_that_leaves_in_the_middle_of_a_graph_leaves_nothing() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": []}, [], number=7, more=True)
    cluster.run_all()
    cluster.state.remove_client("alice", cluster.now)
    assert not cluster.state.tasks


def test_tasks_that_nobody_needs_do_not_run() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": [], "c": ["a"]}, ["c"])
    assert "b" not in cluster.state.tasks
    assert cluster.run_all() == ["a", "c"]


def test_known_tasks_are_shared() -> None:
    cluster = Cluster()
    alice, bob = cluster.add_client("alice"), cluster.add_client("bob")
    cluster.submit(alice, {"a": []})
    cluster.run_all()
    cluster.submit(bob, {"a": [], "b": ["a"]})
    assert cluster.run_all() == ["b"]
    assert cluster.heard["bob"] == {"a": "finished", "b": "finished"}
    cluster.release(alice, ["a"])
    assert cluster.state.tasks["a"].state == "memory"
    cluster.release(bob, ["a", "b"])
    assert not cluster.state.tasks


def order_of(cluster: Cluster) -> list[Any]:
    return [task.key for address in cluster.inbox for task in cluster.to_run(address)]


def test_priority_is_users_then_submission_then_graph() -> None:
    cluster = Cluster(workers=1, nthreads=8)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": []})
    cluster.now = 1.0
    cluster.submit(alice, {"c": []})
    cluster.submit(alice, {"d": []}, options=TaskOptions(priority=5))
    assert order_of(cluster) == ["d", "a", "b", "c"]


def test_submissions_within_fifo_timeout_share_a_generation() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    generations = []
    for number, (now, timeout) in enumerate([(0.0, 1.0), (0.5, 1.0), (2.0, 1.0), (2.5, 0.1)]):
        cluster.now = now
        cluster.submit(alice, {f"x-{number}": []}, options=TaskOptions(fifo_timeout=timeout))
        generations.append(cluster.state.tasks[f"x-{number}"].priority[1])
    assert generations == [1, 1, 2, 3]


def test_tasks_of_a_task_run_before_its_peers() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": []})
    cluster.submit(alice, {"child": []}, submitting_task="a")
    tasks = cluster.state.tasks
    assert tasks["child"].priority < tasks["a"].priority


def test_function_travels_once_a_worker() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": []})
    cluster.submit(alice, {"b": []})
    names = [type(message).__name__ for message in cluster.inbox["tcp://w0:1"]]
    assert names.count("DefineFunction") == 1
    first, second = (message for message in cluster.inbox["tcp://w0:1"] if isinstance(message, ComputeTask))
    assert first.function == second.function


def test_results_ride_only_for_those_who_want_them() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": ["a"]}, ["b"])
    (task,) = cluster.to_run("tcp://w0:1")
    assert (task.key, task.report) == ("a", False)
    cluster.run_one("tcp://w0:1")
    (task,) = cluster.to_run("tcp://w0:1")
    assert (task.key, task.report) == ("b", True)


def test_data_of_unknown_size_counts_for_nothing() -> None:
    cluster = Cluster(workers=1)
    cluster.state.add_data(cluster.add_client(), {"data": ["tcp://w0:1"]}, {}, {}, 0.0)
    assert cluster.state.tasks["data"].nbytes == -1
    assert cluster.state.tasks["data"].group.nbytes_total == 0
