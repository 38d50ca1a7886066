"""Actors in the scheduler's state: one place, no copies, lost with their worker."""

from __future__ import annotations

from headrace.messages.base import TaskOptions
from headrace.messages.client import TaskErred
from headrace.messages.worker import AddKeys, FreeKeys
from tests.scheduler.state.drive import Cluster

ACTOR = TaskOptions(actor=True, workers=["tcp://w0:1"])


def with_actor() -> Cluster:
    cluster = Cluster(workers=3)
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []}, options=ACTOR)
    assert cluster.to_run("tcp://w0:1")[0].extras.actor  # type: ignore[union-attr]
    cluster.run_all()
    return cluster


def freed(cluster: Cluster, address: str) -> list[object]:
    return [key for message in cluster.inbox[address] if isinstance(message, FreeKeys) for key in message.keys]


def test_the_worker_with_the_actor_is_known() -> None:
    cluster = with_actor()
    task = cluster.state.tasks["x"]
    assert task.actor
    assert cluster.state.workers["tcp://w0:1"].actors == {task}
    cluster.release(cluster.state.clients["alice"], ["x"])
    assert cluster.state.workers["tcp://w0:1"].actors == set()
    assert freed(cluster, "tcp://w0:1") == ["x"]


def test_who_can_call_it_is_no_holder_and_is_told_to_drop_that() -> None:
    cluster = with_actor()
    w1 = cluster.state.workers["tcp://w1:1"]
    cluster.state.handle_batch(w1, [AddKeys(["x"])], 1)
    cluster.drain()
    assert [worker.address for worker in cluster.state.tasks["x"].who_has] == ["tcp://w0:1"]
    assert not freed(cluster, "tcp://w1:1")
    cluster.release(cluster.state.clients["alice"], ["x"])
    assert freed(cluster, "tcp://w1:1") == ["x"]
    assert not freed(cluster, "tcp://w2:1")


def test_an_actor_is_lost_with_its_worker_and_not_made_again() -> None:
    cluster = with_actor()
    alice = cluster.state.clients["alice"]
    cluster.submit(alice, {"running": ["x"]}, options=TaskOptions(workers=["tcp://w1:1"]))
    cluster.submit(alice, {"slow": []}, options=TaskOptions(workers=["tcp://w2:1"]))
    cluster.submit(alice, {"waiting": ["x", "slow"]})
    w1 = cluster.state.workers["tcp://w1:1"]
    cluster.state.handle_batch(w1, [AddKeys(["x"])], 1)
    cluster.remove_worker("tcp://w0:1")
    assert cluster.state.tasks["x"].state == "erred"
    assert {key: cluster.heard["alice"][key] for key in ("x", "running", "waiting")} == dict.fromkeys(
        ("x", "running", "waiting"), "error"
    )
    error = [message for message in cluster.messages["alice"] if isinstance(message, TaskErred)][-1]
    assert error.blame == "x"
    assert "'x'" in error.exception_text
    assert "tcp://w0:1" in error.exception_text
    assert cluster.to_run("tcp://w1:1") == []
    assert cluster.run_all() == ["slow"]


def test_a_lost_actor_can_be_retried() -> None:
    cluster = with_actor()
    cluster.remove_worker("tcp://w0:1")
    cluster.add_worker("tcp://w0:1")
    assert cluster.state.retry(["x"], 5) == ["x"]
    cluster.drain()
    assert cluster.run_all() == ["x"]
    assert cluster.heard["alice"]["x"] == "finished"


def test_an_actor_whose_worker_dies_before_it_is_made_is_made_elsewhere() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []}, options=TaskOptions(actor=True))
    task = cluster.state.tasks["x"]
    assert task.processing_on is not None
    cluster.remove_worker(task.processing_on.address)
    assert cluster.run_all() == ["x"]


def test_an_actor_stays_when_its_worker_registers_again() -> None:
    cluster = Cluster(workers=0)
    cluster.add_worker("tcp://w0:1", server_id="same")
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []}, options=ACTOR)
    cluster.run_all()
    again = cluster.add_worker("tcp://w0:1", {"x": 8}, server_id="same")
    assert again.actors == {cluster.state.tasks["x"]}
    assert cluster.state.tasks["x"].state == "memory"
    cluster.add_worker("tcp://w0:1", {}, server_id="another")
    assert cluster.heard["alice"]["x"] == "error"
