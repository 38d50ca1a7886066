"""Every documented attribute of the scheduler's `TaskState`, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Client, Scheduler, Worker
from headrace.messages.base import TaskOptions
from headrace.messages.worker import TaskFinished
from headrace.scheduler import TaskState
from headrace.scheduler.state.records.tasks import STATES, UNKNOWN_NBYTES
from headrace.testing.clusters import gen_cluster
from tests.scheduler.state.drive import Cluster


def submitted(graph: dict[Any, list[Any]], workers: int = 1, **options: Any) -> tuple[Cluster, dict[Any, TaskState]]:
    cluster = Cluster(workers=workers)
    cluster.submit(cluster.add_client(), graph, options=TaskOptions(**options) if options else None)
    return cluster, cluster.state.tasks


def test_key_and_state() -> None:
    cluster, tasks = submitted({"a": [], ("b", 1): ["a"]})
    assert [(key, task.key, task.state) for key, task in tasks.items()] == [
        ("a", "a", "processing"),
        (("b", 1), ("b", 1), "waiting"),
    ]
    assert "processing" in repr(tasks["a"])
    cluster.run_all()
    assert {task.state for task in tasks.values()} == {"memory"}


def test_every_documented_state() -> None:
    assert STATES == ("released", "waiting", "no-worker", "queued", "processing", "memory", "erred", "forgotten")
    cluster = Cluster(workers=0)
    alice = cluster.add_client()
    cluster.submit(alice, {"nowhere": []})
    nowhere = cluster.state.tasks["nowhere"]
    assert nowhere.state == "no-worker"
    cluster.add_worker("tcp://w0:1")
    assert nowhere.state == "processing"
    cluster.submit(alice, {("root-1", i): [] for i in range(2000)})
    assert cluster.state.tasks[("root-1", 1999)].state == "queued"
    cluster.run_one("tcp://w0:1", fail=True)
    assert nowhere.state == "erred"
    cluster.release(alice, ["nowhere"])
    assert nowhere.state == "forgotten"
    cluster.release(alice, [("root-1", i) for i in range(2000)])
    cluster.submit(alice, {"inner": [], "end": ["inner"]}, ["end"])
    inner = cluster.state.tasks["inner"]
    assert cluster.state.tasks["end"].state == "waiting"
    cluster.run_all()
    assert cluster.state.tasks["end"].state == "memory"
    assert inner.state == "released"


def test_priority_is_users_then_submission_then_place_in_the_graph() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": []}, rank=[7, 3])
    cluster.now = 100.0
    cluster.submit(alice, {"later": []})
    cluster.submit(alice, {"urgent": []}, options=TaskOptions(priority=10))
    tasks = cluster.state.tasks
    order = sorted(tasks.values())
    assert [task.key for task in order] == ["urgent", "b", "a", "later"]
    assert tasks["urgent"].priority[0] == -10
    assert tasks["a"].priority[2] == 7


def test_dependencies_and_dependents() -> None:
    _, tasks = submitted({"a": [], "b": [], "c": ["a", "b"]})
    assert tasks["c"].dependencies == {tasks["a"], tasks["b"]}
    assert tasks["a"].dependents == {tasks["c"]}
    assert tasks["a"].dependencies == tasks["c"].dependents == set()


def test_waiting_on_and_waiters() -> None:
    cluster, tasks = submitted({"a": [], "b": [], "c": ["a", "b"]})
    assert tasks["c"].waiting_on == {tasks["a"], tasks["b"]}
    assert tasks["a"].waiters == {tasks["c"]}
    cluster.run_one("tcp://w0:1")
    assert tasks["c"].waiting_on == {tasks["b"]}
    assert tasks["a"].waiters == {tasks["c"]}, "it still needs the result"
    cluster.run_all()
    assert tasks["c"].waiting_on == tasks["a"].waiters == set()


def test_who_wants() -> None:
    cluster = Cluster(workers=1)
    alice, bob = cluster.add_client("alice"), cluster.add_client("bob")
    cluster.submit(alice, {"a": [], "b": ["a"]}, ["b"])
    cluster.submit(bob, {"a": [], "b": ["a"]}, ["b"])
    tasks = cluster.state.tasks
    assert tasks["b"].who_wants == {alice, bob}
    assert tasks["a"].who_wants == set()
    cluster.release(alice, ["b"])
    assert tasks["b"].who_wants == {bob}


def test_processing_on_then_who_has() -> None:
    cluster, tasks = submitted({"a": []})
    worker = cluster.state.workers["tcp://w0:1"]
    task = tasks["a"]
    assert task.processing_on is worker
    assert task.who_has == set()
    cluster.run_all()
    assert task.processing_on is None
    assert task.who_has == {worker}


def test_nbytes_and_type() -> None:
    cluster, tasks = submitted({"a": [], "b": ["a"]})
    task = tasks["a"]
    assert (task.nbytes, task.type) == (UNKNOWN_NBYTES, "")
    assert task.get_nbytes() > 0, "a guess"
    assert task.processing_on is not None
    answer = TaskFinished("a", task.attempt, 123, "Table", 0.0, 1.0)
    cluster.state.handle_batch(task.processing_on, [answer], 1.0)
    assert (task.nbytes, task.get_nbytes(), task.type) == (123, 123, "Table")
    assert tasks["b"].get_nbytes_deps() == 123


def test_retries_count_down() -> None:
    cluster, tasks = submitted({"a": []}, retries=1)
    assert tasks["a"].retries == 1
    cluster.run_one("tcp://w0:1", fail=True)
    assert (tasks["a"].retries, tasks["a"].state) == (0, "processing")
    cluster.run_one("tcp://w0:1", fail=True)
    assert tasks["a"].state == "erred"


def test_suspicious_counts_deaths() -> None:
    cluster, tasks = submitted({"a": []}, workers=2)
    task = tasks["a"]
    assert task.suspicious == 0
    assert task.processing_on is not None
    cluster.remove_worker(task.processing_on.address)
    assert task.suspicious == 1
    assert task.state == "processing"


def test_exception_traceback_blame_and_erred_on() -> None:
    cluster, tasks = submitted({"a": [], "b": ["a"]})
    a, b = tasks["a"], tasks["b"]
    assert (a.exception, a.traceback, a.exception_blame, a.erred_on) == (None, None, None, set())
    cluster.run_one("tcp://w0:1", fail=True)
    assert (a.exception, a.traceback) == (b"e", b"t")
    assert (a.exception_text, a.traceback_text) == ("boom", "line 1")
    assert a.erred_on == {"tcp://w0:1"}
    assert (a.exception_blame, b.exception_blame) == (a, a)
    assert b.erred_on == set()


def test_restrictions() -> None:
    _, tasks = submitted({"a": []}, resources={"GPU": 2.0})
    task = tasks["a"]
    assert task.resource_restrictions == {"GPU": 2.0}
    assert task.state == "no-worker"
    assert (task.worker_restrictions, task.host_restrictions, task.loose_restrictions) == (set(), set(), False)


def test_worker_and_host_restrictions() -> None:
    cluster = Cluster(workers=1)
    names = ["tcp://w0:1", "alice", "192.0.2.1", "::1"]
    options = TaskOptions(workers=names, allow_other_workers=True)
    cluster.submit(cluster.add_client(), {"a": []}, options=options)
    task = cluster.state.tasks["a"]
    assert task.worker_restrictions == {"tcp://w0:1", "alice"}
    assert task.host_restrictions == {"192.0.2.1", "::1"}
    assert task.loose_restrictions


def test_options_are_among_the_annotations() -> None:
    _, tasks = submitted({"a": []}, priority=3, retries=1, annotations={"foo": "bar"}, stated=["resources"])
    assert tasks["a"].annotations == {"foo": "bar", "priority": 3, "retries": 1, "resources": {}}


def test_a_computation_has_the_annotations_of_its_calls() -> None:
    cluster = Cluster(workers=1)
    client = cluster.add_client()
    cluster.submit(client, {"a": []}, options=TaskOptions(annotations={"job": 1}))
    cluster.submit(client, {"b": []}, options=TaskOptions(priority=2, annotations={"job": 2}))
    cluster.submit(client, {"c": []})
    (computation,) = cluster.state.computations
    assert computation.annotations == {"job": 2, "priority": 2}


def test_annotations_and_actor() -> None:
    _, tasks = submitted({"a": []}, annotations={"foo": "bar"})
    assert tasks["a"].annotations == {"foo": "bar"}
    assert tasks["a"].actor is False
    _, tasks = submitted({"a": []}, actor=True)
    assert tasks["a"].actor is True


def test_metadata_is_what_the_worker_sent() -> None:
    cluster, tasks = submitted({"a": []})
    task = tasks["a"]
    assert task.metadata == {}
    assert task.processing_on is not None
    answer = TaskFinished("a", task.attempt, 8, "int", 0.0, 1.0, metadata={"rows": 5})
    cluster.state.handle_batch(task.processing_on, [answer], 1.0)
    assert task.metadata == {"rows": 5}


def test_run_spec_is_the_pickled_call_and_none_for_data() -> None:
    cluster, tasks = submitted({"a": []})
    assert tasks["a"].run_spec is not None
    function, arguments = tasks["a"].run_spec
    assert (function.pickled, arguments) == (b"f", b"()")
    cluster.state.add_data(cluster.add_client("bob"), {"data": ["tcp://w0:1"]}, {"data": 5}, {"data": "int"}, 0.0)
    assert tasks["data"].run_spec is None


def test_prefix_group_and_group_key() -> None:
    _, tasks = submitted({("inc-0a1b", 0): []})
    task = tasks[("inc-0a1b", 0)]
    assert task.group.name == task.group_key == "inc-0a1b"
    assert task.prefix is task.group.prefix
    assert task.prefix.name == "inc"


def test_run_id_changes_with_each_assignment() -> None:
    cluster, tasks = submitted({"a": []}, retries=2)
    before = tasks["a"].run_id
    cluster.run_one("tcp://w0:1", fail=True)
    assert tasks["a"].run_id > before


def test_lost_dependencies() -> None:
    _, tasks = submitted({"a": [], "b": ["a"]})
    assert not tasks["b"].has_lost_dependencies
    tasks["a"].state = "forgotten"
    assert tasks["b"].has_lost_dependencies


def test_relations_cannot_be_changed_by_readers() -> None:
    _, tasks = submitted({"a": [], "b": ["a"]})
    tasks["b"].dependencies.clear()
    tasks["a"].waiters.clear()
    assert tasks["b"].dependencies == {tasks["a"]}
    assert tasks["a"].waiters == {tasks["b"]}


@pytest.mark.parametrize("value", [1, "text", None])
@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True)
async def test_type_and_size_of_a_real_result(c: Client, s: Scheduler, w: Worker, value: Any) -> None:
    future = c.submit(lambda: value, key="x")
    await future
    assert s.tasks["x"].type == type(value).__name__
    assert s.tasks["x"].nbytes > 0
    assert s.tasks["x"].who_has == {s.workers[w.address]}
