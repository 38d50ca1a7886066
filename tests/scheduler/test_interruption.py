"""The pure scheduler: tasks that wait for their next attempt, and whom an interruption is sent to."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Retry
from headrace.client.packing.task_options import make_options
from headrace.messages.base import TaskOptions
from headrace.messages.client import CancelKeys, GraphRefused
from headrace.messages.worker import FreeKeys, InterruptTasks, TaskFailed
from headrace.scheduler.state.checks.invariants import check
from tests.scheduler.state.drive import Cluster

W0, W1 = "tcp://w0:1", "tcp://w1:1"


def options(count: int = 3, **keywords: Any) -> TaskOptions:
    keywords = {"delay": 10, "backoff": 2, "jitter": 0, **keywords}
    return make_options({}, retries=Retry(count, **keywords))


def wait(cluster: Cluster, seconds: float) -> None:
    cluster.now += seconds
    cluster.state.on_retries_due(cluster.now)
    cluster.drain()


def delayed(cluster: Cluster, key: str = "x") -> bool:
    task = cluster.state.tasks.get(key)
    return task is not None and task in cluster.state.delays


def failed_once(workers: int = 1, **keywords: Any) -> Cluster:
    cluster = Cluster(workers=workers)
    cluster.submit(cluster.add_client(), {"x": []}, options=options(**keywords))
    assert [cluster.run_one(address, fail=True) for address in list(cluster.inbox)].count("x") == 1
    return cluster


def test_a_failed_task_waits_and_takes_no_worker() -> None:
    cluster = failed_once()
    task = cluster.state.tasks["x"]
    assert task.state == "waiting"
    assert delayed(cluster)
    assert task.retries == 2
    assert task.retry_at == pytest.approx(10.01)
    assert cluster.state.delays.next_due() == task.retry_at
    assert not cluster.state.workers[W0].processing
    assert cluster.heard["alice"] == {}
    wait(cluster, 9)
    assert task.state == "waiting"
    wait(cluster, 2)
    assert task.state == "processing"
    assert not cluster.state.delays
    assert [line[1:4] for line in cluster.state.story("x")][-3:] == [
        ("processing", "released", "worker"),
        ("released", "waiting", "worker"),
        ("waiting", "processing", "retry-due"),
    ]
    cluster.run_all()
    assert cluster.heard["alice"] == {"x": "finished"}


def test_delays_grow_and_retries_end() -> None:
    cluster = failed_once(count=2)
    task = cluster.state.tasks["x"]
    wait(cluster, 10)
    cluster.run_one(W0, fail=True)
    assert task.retry_at - cluster.now == pytest.approx(20)
    wait(cluster, 20)
    cluster.run_one(W0, fail=True)
    assert cluster.heard["alice"] == {"x": "error"}
    cluster.state.retry(["x"], cluster.now)
    cluster.drain()
    assert task.state == "processing"


def test_no_delay_is_no_wait() -> None:
    cluster = failed_once(delay=0)
    assert cluster.state.tasks["x"].state == "processing"
    assert not cluster.state.delays


def test_other_exceptions_are_final() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"x": []}, options=options(on=OSError))
    (task,) = cluster.to_run(W0)
    answer = TaskFailed(task.key, task.attempt, b"e", b"t", "boom", "line 1", 0.0, 0.1, retry=False)
    cluster.state.handle_batch(cluster.state.workers[W0], [answer], cluster.now)
    cluster.drain()
    assert cluster.heard["alice"] == {"x": "error"}


@pytest.mark.parametrize("how", ["release", "cancel", "leave"])
def test_what_nobody_wants_while_it_waits_is_gone(how: str) -> None:
    cluster = failed_once()
    alice = cluster.state.clients["alice"]
    if how == "release":
        cluster.release(alice, ["x"])
    elif how == "cancel":
        cluster.cancel(alice, ["x"])
    else:
        cluster.state.remove_client("alice", cluster.now)
    assert not cluster.state.tasks
    assert not cluster.state.delays
    assert cluster.state.delays.next_due() is None
    wait(cluster, 100)


def test_released_and_wanted_again_it_still_waits() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []}, options=options())
    cluster.submit(alice, {"y": ["x"]}, ["y"])
    cluster.run_one(W0, fail=True)
    cluster.release(alice, ["x"])
    assert delayed(cluster)  # y needs it
    cluster.cancel(alice, ["y"])
    assert not cluster.state.tasks
    cluster.submit(alice, {"x": []}, options=options())
    assert cluster.state.tasks["x"].state == "processing", "a new task knows nothing of it"


def test_a_dependency_lost_while_it_waits() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": []})
    cluster.submit(alice, {"x": ["a"]}, options=options())
    assert cluster.run_one(W0) == "a"
    assert cluster.run_one(W0, fail=True) == "x"
    assert delayed(cluster)
    cluster.remove_worker(W0)
    wait(cluster, 50)  # due, but what it needs is not there
    assert cluster.state.tasks["x"].state == "waiting"
    cluster.add_worker(W1)
    assert cluster.run_all() == ["a", "x"]


def test_a_dependency_that_is_back_before_its_time() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": []})
    cluster.submit(alice, {"x": ["a"]}, options=options())
    cluster.run_one(W0)
    cluster.run_one(W0, fail=True)
    cluster.remove_worker(W0)
    cluster.add_worker(W1)
    assert cluster.run_all() == ["a"]
    assert delayed(cluster)
    check(cluster.state)
    wait(cluster, 10)
    assert cluster.run_all() == ["x"]


def test_a_dependency_that_fails_while_it_waits() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": []})
    cluster.submit(alice, {"x": ["a"]}, options=options())
    cluster.run_one(W0)
    cluster.run_one(W0, fail=True)
    cluster.remove_worker(W0)
    cluster.add_worker(W1)
    assert cluster.run_one(W1, fail=True) == "a"
    assert cluster.heard["alice"] == {"a": "error", "x": "error"}
    assert not cluster.state.delays


def test_many_are_taken_in_the_order_in_which_they_are_due() -> None:
    cluster = Cluster(workers=1, nthreads=4)
    alice = cluster.add_client()
    for number in (3, 1, 2):
        cluster.submit(alice, {f"x{number}": []}, options=options(delay=number))
    for _ in range(3):
        cluster.run_one(W0, fail=True)
    assert len(cluster.state.delays) == 3
    wait(cluster, 1.5)
    assert [message.key for message in cluster.to_run(W0)] == ["x1"]
    wait(cluster, 5)
    assert not cluster.state.delays


def test_a_malformed_policy_is_refused_with_the_graph() -> None:
    cluster = Cluster(workers=1)
    bad = TaskOptions(retries=2, annotations={"retries": {"count": 2, "delay": "soon"}})
    cluster.submit(cluster.add_client(), {"x": []}, options=bad)
    (message,) = cluster.messages["alice"]
    assert isinstance(message, GraphRefused)
    assert "'delay'" in message.message


# Interrupting


def cancel(cluster: Cluster, keys: list[str], force: bool = False, client: str = "alice") -> None:
    cluster.state.handle(cluster.state.clients[client], CancelKeys(keys, force, "", True), cluster.now)
    cluster.drain()


def said(cluster: Cluster, address: str) -> list[Any]:
    """What a worker was told to drop (as keys), and to interrupt."""
    told: list[Any] = []
    for message in cluster.inbox[address]:
        if isinstance(message, InterruptTasks):
            told.append(message)
        elif isinstance(message, FreeKeys):
            told.append(message.keys)
    return told


@pytest.mark.parametrize("force", [False, True])
def test_running_work_is_called_off_and_then_interrupted(force: bool) -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"x": []})
    cancel(cluster, ["x"], force)
    assert said(cluster, W0) == [["x"], InterruptTasks(["x"], force)]
    assert not cluster.state.tasks


def test_what_others_want_is_not_interrupted_unless_forced() -> None:
    cluster = Cluster(workers=1)
    for name in ("alice", "bob"):
        cluster.submit(cluster.add_client(name), {"x": []})
    cancel(cluster, ["x"])
    assert said(cluster, W0) == []
    assert cluster.state.tasks["x"].state == "processing"
    cancel(cluster, ["x"], force=True)
    assert said(cluster, W0) == [["x"], InterruptTasks(["x"], True)]
    assert cluster.heard["bob"] == {"x": "cancelled"}


def test_what_runs_only_for_a_cancelled_task_is_interrupted_too() -> None:
    cluster = Cluster(workers=1, nthreads=2)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": [], "x": ["a", "b"]}, ["x"])
    cluster.submit(alice, {"y": ["b"]}, ["y"])
    cancel(cluster, ["x"])
    (interruption,) = [message for message in said(cluster, W0) if isinstance(message, InterruptTasks)]
    assert interruption.keys == ["a"]


def test_plain_cancel_interrupts_nothing() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"x": []})
    cluster.cancel(alice, ["x"])
    assert said(cluster, W0) == [["x"]]
