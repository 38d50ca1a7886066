"""Restrictions, resources, priorities, retries, and tasks that no worker may run."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.compat.scheduler.record_questions import decide_worker, valid_workers
from headrace.messages.base import TaskOptions
from headrace.scheduler.state.placing.restrictions import SAMPLE, restricted_workers, workers_named
from tests.scheduler.state.drive import Cluster


def options(**keywords: Any) -> TaskOptions:
    return TaskOptions(**keywords)


def homes(cluster: Cluster, *keys: Any) -> list[str | None]:
    """Where tasks are processed."""
    found = []
    for key in keys:
        worker = cluster.state.tasks[key].processing_on
        found.append(worker.address if worker is not None else None)
    return found


@pytest.mark.parametrize(
    "name",
    ["tcp://w1:1", "w1:1", "w1", "the-name", "machine-1"],
    ids=["address", "no protocol", "host", "name", "host"],
)
def test_workers_are_found_by_address_name_and_host(name: str) -> None:
    cluster = Cluster(workers=1)
    cluster.add_worker("tcp://w1:1", name="the-name", hostname="machine-1")
    alice = cluster.add_client()
    for number in range(4):
        cluster.submit(alice, {f"x{number}": []}, options=options(workers=[name]))
    assert homes(cluster, "x0", "x1", "x2", "x3") == ["tcp://w1:1"] * 4


def test_localhost_means_workers_on_the_loopback_network() -> None:
    cluster = Cluster(workers=1)
    worker = cluster.add_worker("tcp://127.0.0.1:9")
    assert workers_named(cluster.state, "localhost") == [worker]
    assert workers_named(cluster.state, "127.0.0.1") == [worker]
    assert workers_named(cluster.state, "elsewhere") == []


def test_a_task_waits_for_its_worker() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []}, options=options(workers=["late"]))
    task = cluster.state.tasks["x"]
    assert task.state == "no-worker"
    assert task in cluster.state.unrunnable
    cluster.add_worker("tcp://other:1")
    assert task.state == "no-worker"
    cluster.add_worker("tcp://late:1", name="late")
    assert homes(cluster, "x") == ["tcp://late:1"]
    assert not cluster.state.unrunnable


def test_others_may_run_it_when_its_worker_is_not_there() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    loose = options(workers=["late"], allow_other_workers=True)
    cluster.submit(alice, {"x": []}, options=loose)
    assert homes(cluster, "x") != [None]
    cluster.add_worker("tcp://late:1", name="late")
    cluster.submit(alice, {"y": []}, options=loose)
    assert homes(cluster, "y") == ["tcp://late:1"]


def test_a_restricted_task_whose_worker_dies_waits_for_another() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []}, options=options(workers=["tcp://w1:1"]))
    cluster.remove_worker("tcp://w1:1", expected=True)
    assert cluster.state.tasks["x"].state == "no-worker"
    cluster.add_worker("tcp://w1:1")
    assert cluster.run_all() == ["x"]


def test_a_paused_worker_gets_no_restricted_task() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.state.set_worker_status(cluster.state.workers["tcp://w1:1"], "paused", 0)
    cluster.submit(alice, {"x": []}, options=options(workers=["tcp://w1:1"]))
    assert cluster.state.tasks["x"].state == "no-worker"
    cluster.state.set_worker_status(cluster.state.workers["tcp://w1:1"], "running", 0)
    assert homes(cluster, "x") == ["tcp://w1:1"]


def test_what_is_asked_for_is_looked_up_once() -> None:
    cluster = Cluster(workers=3)
    alice = cluster.add_client()
    for number in range(20):
        cluster.submit(alice, {f"x{number}": []}, options=options(workers=["w1", "w2"]))
    assert len(cluster.state.allowed) == 1
    assert set(homes(cluster, *[f"x{n}" for n in range(20)])) == {"tcp://w1:1", "tcp://w2:1"}
    cluster.add_worker("tcp://w3:1")
    assert not cluster.state.allowed


def test_of_many_allowed_workers_a_sample_is_weighed_and_holders_always() -> None:
    cluster = Cluster(workers=100)
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []}, options=options(workers=["tcp://w99:1"]))
    cluster.run_all()
    everyone = options(workers=[f"w{number}" for number in range(100)])
    cluster.submit(alice, {"y": ["x"]}, options=everyone)
    assert homes(cluster, "y") == ["tcp://w99:1"]
    for number in range(50):
        cluster.submit(alice, {f"z{number}": []}, options=everyone)
    assert len(set(homes(cluster, *[f"z{number}" for number in range(50)]))) > SAMPLE


def test_resources_place_tasks_and_are_never_overdrawn() -> None:
    cluster = Cluster(workers=1, nthreads=4)
    gpu = cluster.add_worker("tcp://gpu:1", nthreads=4, resources={"GPU": 2, "MEM": 10.0})
    alice = cluster.add_client()
    for number in range(6):
        cluster.submit(alice, {f"x{number}": []}, options=options(resources={"GPU": 1, "MEM": 4}))
    assert set(homes(cluster, *[f"x{n}" for n in range(6)])) == {"tcp://gpu:1"}
    assert gpu.used_resources == {"GPU": 2, "MEM": 10}
    while cluster.run_one("tcp://gpu:1"):
        assert all(gpu.used_resources[name] <= gpu.resources[name] for name in gpu.resources)
    assert gpu.used_resources == {"GPU": 0, "MEM": 0}


def test_a_task_that_no_worker_has_the_resources_for_waits() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []}, options=options(resources={"GPU": 1}))
    assert cluster.state.tasks["x"].state == "no-worker"
    worker = cluster.state.workers["tcp://w0:1"]
    cluster.state.set_resources(worker, {"GPU": 0.5}, 1)
    assert cluster.state.tasks["x"].state == "no-worker"
    cluster.state.set_resources(worker, {"GPU": 1}, 2)
    assert homes(cluster, "x") == ["tcp://w0:1"]
    assert cluster.state.resources == {"GPU": {"tcp://w0:1": 1}}
    cluster.state.set_resources(worker, {"GPU": 0}, 3)
    cluster.drain()
    assert cluster.state.tasks["x"].state == "no-worker"
    assert cluster.to_run("tcp://w0:1") == []


def test_scarce_resources_count_and_not_threads() -> None:
    cluster = Cluster(workers=0)
    cluster.add_worker("tcp://many:1", nthreads=16, resources={"GPU": 1})
    cluster.add_worker("tcp://few:1", nthreads=1, resources={"GPU": 1})
    alice = cluster.add_client()
    for number in range(10):
        cluster.submit(alice, {f"x{number}": []}, options=options(resources={"GPU": 1}))
    assert homes(cluster, *[f"x{n}" for n in range(10)]).count("tcp://few:1") == 5


def test_priorities_are_the_users_then_of_submission_then_of_the_graph() -> None:
    cluster = Cluster(workers=1, nthreads=1, saturation=float("inf"))
    alice = cluster.add_client()
    cluster.submit(alice, {"a0": [], "a1": []})
    cluster.now += 1
    cluster.submit(alice, {"b0": [], "b1": []})
    cluster.now += 1
    cluster.submit(alice, {"c0": []}, options=options(priority=1))
    cluster.submit(alice, {"d0": []}, options=options(priority=-1))
    assert cluster.run_all() == ["c0", "a0", "a1", "b0", "b1", "d0"]


@pytest.mark.parametrize(("timeout", "same"), [(10.0, True), (0.0, False)])
def test_within_fifo_timeout_submissions_are_of_one_generation(timeout: float, same: bool) -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    for key in ("x", "y"):
        cluster.submit(alice, {key: []}, options=options(fifo_timeout=timeout))
        cluster.now += 1
    x, y = (cluster.state.tasks[key].priority[1] for key in ("x", "y"))
    assert (x == y) == same


def test_retries() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []}, options=options(retries=2))
    for left in (1, 0):
        cluster.run_one("tcp://w0:1", fail=True)
        assert cluster.state.tasks["x"].retries == left
        assert cluster.state.tasks["x"].state == "processing"
    cluster.run_one("tcp://w0:1", fail=True)
    assert cluster.heard["alice"]["x"] == "error"


def test_what_waits_too_long_for_a_worker_errs_with_its_dependents() -> None:
    asked: list[Any] = []

    def payload(task: Any, timeout: float, any_worker: bool) -> bytes:
        asked.append((task.key, timeout, any_worker))
        return b"payload"

    cluster = Cluster(workers=0, unrunnable_payload=payload)
    alice = cluster.add_client()
    cluster.submit(alice, {"x": [], "y": ["x"]})
    cluster.state.expire_unrunnable(5, 4.9)
    assert cluster.state.tasks["x"].state == "no-worker"
    cluster.state.expire_unrunnable(5, 5.1)
    cluster.drain()
    assert asked == [("x", 5, False)]
    assert cluster.heard["alice"] == {"x": "error", "y": "error"}
    assert cluster.state.tasks["y"].exception_blame is cluster.state.tasks["x"]
    cluster.now = 10
    cluster.add_worker("tcp://w0:1")
    cluster.submit(alice, {"z": []}, options=options(workers=["nowhere"]))
    cluster.state.expire_unrunnable(5, 15.1)
    assert asked[-1] == ("z", 5, True)
    cluster.state.retry(["x"], 16)
    cluster.drain()
    assert cluster.run_all() == ["x", "y"]


def test_restricted_workers_is_none_for_tasks_that_ask_for_nothing() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []})
    assert restricted_workers(cluster.state, cluster.state.tasks["x"]) is None


def test_who_may_run_a_task_is_answered_in_full_and_moves_nothing() -> None:
    cluster = Cluster(workers=0)
    workers = [cluster.add_worker(f"tcp://w{n}:1", resources={"disk": 1}) for n in range(SAMPLE + 5)]
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []}, options=options(resources={"disk": 1}))
    task = cluster.state.tasks["x"]
    turns = {demand: allowed.turn for demand, allowed in cluster.state.allowed.items()}
    assert valid_workers(cluster.state, task) == set(workers)
    assert decide_worker(cluster.state, task) in workers
    assert {demand: allowed.turn for demand, allowed in cluster.state.allowed.items()} == turns
