"""Results that cannot be sent: what needs them runs where they are."""

from __future__ import annotations

import pytest

from headrace.messages.base import TaskOptions
from headrace.messages.worker import CannotSend, TaskFailed, TaskFinished
from tests.scheduler.state.drive import Cluster

HOME, OTHER = "tcp://w0:1", "tcp://w1:1"


def answer(cluster: Cluster, address: str, *messages: object) -> None:
    cluster.state.handle_batch(cluster.state.workers[address], list(messages), cluster.now)
    cluster.drain()


def take(cluster: Cluster, address: str, key: str) -> int:
    """Have a task that was sent to a worker taken up there; returns its attempt."""
    (task,) = [task for task in cluster.to_run(address) if task.key == key]
    cluster.inbox[address].remove(task)
    return int(task.attempt)


def finish(cluster: Cluster, address: str, key: str) -> None:
    answer(cluster, address, TaskFinished(key, take(cluster, address, key), 10, "socket", 0.0, 0.1))


def refuse(cluster: Cluster, address: str, key: str, needed: str) -> None:
    """A worker could not fetch what a task needs."""
    failed = TaskFailed(key, take(cluster, address, key), b"e", b"", "cannot be sent", "", 0.0, 0.0)
    answer(cluster, address, CannotSend(needed), failed)


@pytest.fixture
def cluster() -> Cluster:
    """Two workers; the first holds `socket` and is busy with `first`, so that `second` went to the other."""
    found = Cluster(workers=2)
    alice = found.add_client()
    found.submit(alice, {"socket": []}, options=TaskOptions(workers=[HOME]))
    finish(found, HOME, "socket")
    found.submit(alice, {"first": ["socket"]})
    found.submit(alice, {"second": ["socket"]})
    assert [task.key for task in found.to_run(OTHER)] == ["second"]
    return found


def test_what_failed_elsewhere_runs_where_the_result_is(cluster: Cluster) -> None:
    refuse(cluster, OTHER, "second", "socket")
    assert [task.key for task in cluster.to_run(HOME)] == ["first", "second"]
    assert cluster.state.tasks["second"].retries == 0
    assert not cluster.state.tasks["second"].erred_on
    cluster.submit(cluster.state.clients["alice"], {"third": ["socket"]})
    assert [task.key for task in cluster.to_run(HOME)] == ["first", "second", "third"]
    for key in ("first", "second", "third"):
        finish(cluster, HOME, key)
    assert cluster.heard["alice"]["second"] == "finished"


def test_is_not_stolen(cluster: Cluster) -> None:
    refuse(cluster, OTHER, "second", "socket")
    cluster.submit(cluster.state.clients["alice"], {f"more-{n}": ["socket"] for n in range(20)})
    assert not cluster.to_run(OTHER)
    from headrace.scheduler.state.balance.stealing import balance

    assert balance(cluster.state, cluster.now) == 0


def test_what_may_not_run_there_fails(cluster: Cluster) -> None:
    alice = cluster.state.clients["alice"]
    for number in range(2):  # before and after it is known
        key = f"bound-{number}"
        cluster.submit(alice, {key: ["socket"]}, options=TaskOptions(workers=[OTHER]))
        refuse(cluster, OTHER, key, "socket")
        assert cluster.heard["alice"][key] == "error"


def test_two_that_stay_on_different_workers_cannot_meet(cluster: Cluster) -> None:
    alice = cluster.state.clients["alice"]
    refuse(cluster, OTHER, "second", "socket")
    cluster.submit(alice, {"lock": []}, options=TaskOptions(workers=[OTHER]))
    finish(cluster, OTHER, "lock")
    cluster.submit(alice, {"both": ["socket", "lock"]})
    refuse(cluster, HOME, "both", "lock")
    assert cluster.heard["alice"]["both"] == "error"


def test_a_failure_of_its_own_is_a_failure(cluster: Cluster) -> None:
    refuse(cluster, OTHER, "second", "socket")
    failed = TaskFailed("second", take(cluster, HOME, "second"), b"e", b"", "ValueError", "", 0.0, 0.0)
    answer(cluster, HOME, failed)
    assert cluster.heard["alice"]["second"] == "error"


def test_waits_for_a_paused_holder(cluster: Cluster) -> None:
    home = cluster.state.workers[HOME]
    cluster.state.set_worker_status(home, "paused", cluster.now)
    refuse(cluster, OTHER, "second", "socket")
    assert cluster.state.tasks["second"].state == "no-worker"
    cluster.state.set_worker_status(home, "running", cluster.now)
    cluster.drain()
    assert cluster.state.tasks["second"].processing_on is home


def test_is_made_anew_with_its_worker_gone_and_forgotten_in_the_end(cluster: Cluster) -> None:
    refuse(cluster, OTHER, "second", "socket")
    cluster.remove_worker(HOME)
    cluster.add_worker(HOME)
    cluster.run_all()
    assert cluster.heard["alice"]["second"] == "finished"
    cluster.release(cluster.state.clients["alice"], ["socket", "first", "second"])
    assert not cluster.state.tasks
    assert not cluster.state.staying
