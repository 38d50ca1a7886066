"""Errors with their blame, retries, deaths, cancellation, and data that clients put there."""

from __future__ import annotations

import pytest

from headrace.messages.base import TaskOptions
from headrace.messages.client import DesireKeys, TaskErred
from headrace.messages.worker import (
    FreeKeys,
    LongRunning,
    ReleasedData,
    RequestWhoHas,
    RescheduleTask,
    TaskFinished,
)
from headrace.scheduler.state.checks.invariants import InvariantError, check
from headrace.scheduler.state.core import SchedulerCore
from headrace.scheduler.state.flow import membership
from headrace.scheduler.state.transitions.engine import UnknownTransition
from tests.scheduler.state.drive import Cluster


def test_failure_reaches_all_that_depend_with_its_cause() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    cluster.submit(alice, {"bad": [], "mid": ["bad"], "end": ["mid"], "other": []}, ["end", "other"])
    (address,) = [address for address in cluster.inbox if any(t.key == "bad" for t in cluster.to_run(address))]
    cluster.run_one(address, fail=True)
    cluster.run_all()
    assert cluster.heard["alice"] == {"end": "error", "other": "finished"}
    (message,) = [m for m in cluster.messages["alice"] if isinstance(m, TaskErred)]
    assert (message.key, message.blame, message.exception_text) == ("end", "bad", "boom")
    cluster.release(alice, ["end", "other"])
    assert not cluster.state.tasks


def test_retries_are_used_up_before_a_task_errs() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"flaky": []}, options=TaskOptions(retries=2))
    for _ in range(2):
        cluster.run_one("tcp://w0:1", fail=True)
        assert cluster.state.tasks["flaky"].state == "processing"
    cluster.run_one("tcp://w0:1", fail=True)
    assert cluster.heard["alice"] == {"flaky": "error"}


def test_retry_runs_the_cause_and_what_depends_on_it() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"bad": [], "end": ["bad"]}, ["end"])
    cluster.run_one("tcp://w0:1", fail=True)
    assert cluster.state.retry(["end"], cluster.now) == ["end"]
    cluster.drain()
    assert cluster.heard["alice"] == {"end": "pending"}
    assert cluster.run_all() == ["bad", "end"]
    assert cluster.heard["alice"] == {"end": "finished"}


def test_dead_worker_s_results_are_computed_again() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"a": [], "b": ["a"]}, ["b"])
    cluster.run_all()
    cluster.add_worker("tcp://new:1")
    cluster.remove_worker("tcp://w0:1")
    assert cluster.heard["alice"] == {"b": "pending"}
    assert cluster.run_all() == ["a", "b"]


def test_task_that_kills_its_workers_errs_by_name() -> None:
    cluster = Cluster(workers=4, allowed_failures=2)
    cluster.submit(cluster.add_client(), {"killer": []})
    task = cluster.state.tasks["killer"]
    for _ in range(3):
        assert task.processing_on is not None
        cluster.remove_worker(task.processing_on.address)
    assert cluster.heard["alice"] == {"killer": "error"}
    (message,) = cluster.messages["alice"]
    assert "'killer'" in message.exception_text
    assert "3 workers" in message.exception_text


def test_expected_departures_are_not_held_against_a_task() -> None:
    cluster = Cluster(workers=3, allowed_failures=0)
    cluster.submit(cluster.add_client(), {"a": []})
    task = cluster.state.tasks["a"]
    assert task.processing_on is not None
    cluster.remove_worker(task.processing_on.address, expected=True)
    assert cluster.run_all() == ["a"]


def test_scattered_data_without_a_copy_is_reported_and_takes_its_dependents_along() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.state.add_data(alice, {"data": ["tcp://w0:1"]}, {"data": 100}, {}, 0.0)
    cluster.drain()
    assert cluster.heard["alice"] == {"data": "finished"}
    cluster.submit(alice, {"use": ["data"]})
    lost = cluster.state.remove_worker("tcp://w0:1", "killed", 1.0)
    del cluster.inbox["tcp://w0:1"]
    cluster.drain()
    assert lost == ["data"]
    assert cluster.heard["alice"] == {"data": "cancelled", "use": "cancelled"}
    assert not cluster.state.tasks


def test_scattered_data_that_a_graph_says_how_to_compute_are_computed_when_they_are_lost() -> None:
    cluster = Cluster(workers=2)
    alice, bob = cluster.add_client("alice"), cluster.add_client("bob")
    cluster.state.add_data(alice, {"data": ["tcp://w0:1"]}, {"data": 100}, {}, 0.0)
    cluster.drain()
    cluster.submit(bob, {"need": [], "data": ["need"], "use": ["data"]}, ["use"])
    assert cluster.run_all() == ["use"]  # the data are there
    cluster.remove_worker("tcp://w0:1")
    assert cluster.run_all()[:2] == ["need", "data"]
    assert cluster.heard["alice"] == {"data": "finished"}
    cluster.release(alice, ["data"])
    cluster.release(bob, ["use"])
    assert not cluster.state.tasks


def test_what_scattered_data_are_needed_for_is_not_taken_for_what_computes_them() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.state.add_data(alice, {"data": ["tcp://w0:1"]}, {"data": 100}, {}, 0.0)
    cluster.drain()
    cluster.submit(alice, {"use": ["data"]})
    cluster.submit(alice, {"data": ["use"]})
    assert cluster.state.tasks["data"].function is None
    assert cluster.run_all() == ["use"]


def test_cancel_stops_dependents_too_and_says_why() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": ["a"]}, ["a", "b"])
    cluster.cancel(alice, ["a"])
    assert cluster.heard["alice"] == {"a": "cancelled", "b": "cancelled"}
    assert not cluster.state.tasks
    assert cluster.to_run("tcp://w0:1") == []


def test_cancel_leaves_what_others_want_unless_forced() -> None:
    cluster = Cluster(workers=1)
    alice, bob = cluster.add_client("alice"), cluster.add_client("bob")
    cluster.submit(alice, {"a": []})
    cluster.submit(bob, {"a": []})
    cluster.cancel(alice, ["a"])
    assert cluster.heard["alice"] == {"a": "cancelled"}
    assert cluster.state.tasks["a"].state == "processing"
    cluster.submit(alice, {"a": []})
    cluster.cancel(alice, ["a"], force=True)
    assert cluster.heard["bob"] == {"a": "cancelled"}
    assert not cluster.state.tasks


def test_late_answers_are_dropped() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": []})
    task = cluster.state.tasks["a"]
    first = task.processing_on
    assert first is not None
    late = TaskFinished("a", task.attempt, 8, "int", 0.0, 1.0)
    cluster.state.handle_batch(first, [RescheduleTask("a", task.attempt)], 0.5)
    cluster.state.handle_batch(first, [late], 1.0)
    cluster.drain()
    cluster.run_all()
    assert cluster.heard["alice"] == {"a": "finished"}
    cluster.release(alice, ["a"])
    cluster.state.handle_batch(first, [late], 2.0)
    cluster.drain()
    assert not cluster.state.tasks


def test_answer_to_a_withdrawn_assignment_is_not_taken_for_a_copy() -> None:
    """The worker will drop it as soon as it reads that the assignment was withdrawn."""
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": []})
    task = cluster.state.tasks["a"]
    first = task.processing_on
    assert first is not None
    late = TaskFinished("a", task.attempt, 8, "int", 0.0, 1.0)
    cluster.release(alice, ["a"])
    (second,) = [address for address in cluster.state.workers if address != first.address]
    cluster.submit(alice, {"a": []}, options=TaskOptions(workers=[second]))
    again = cluster.state.tasks["a"]
    cluster.state.handle_batch(first, [late], 1.0)
    assert first not in again.who_has
    assert again.state == "processing"
    cluster.run_all()
    assert cluster.heard["alice"]["a"] == "finished"


def test_what_a_worker_did_before_it_registered_again_is_freed() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": []})
    late = TaskFinished("a", cluster.state.tasks["a"].attempt, 8, "int", 0.0, 1.0)
    cluster.remove_worker("tcp://w0:1")
    cluster.release(alice, ["a"])
    cluster.add_worker("tcp://w0:1")
    worker = cluster.state.workers["tcp://w0:1"]
    cluster.state.handle_batch(worker, [late], 1.0)
    assert [message.keys for message in worker.outbox] == [["a"]]


def test_dropped_copy_is_computed_again_when_it_was_the_last() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"a": []})
    cluster.run_all()
    cluster.state.handle_batch(cluster.state.workers["tcp://w0:1"], [ReleasedData("a")], 1.0)
    cluster.drain()
    assert cluster.heard["alice"] == {"a": "pending"}
    assert cluster.run_all() == ["a"]


def test_seceded_task_takes_no_room() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"long": []})
    worker = cluster.state.workers["tcp://w0:1"]
    attempt = cluster.state.tasks["long"].attempt
    assert worker not in cluster.state.idle
    cluster.state.handle_batch(worker, [LongRunning("long", attempt, 0.1)], 1.0)
    assert worker in cluster.state.idle
    assert worker.occupancy == 0
    cluster.run_all()
    assert cluster.heard["alice"] == {"long": "finished"}


def test_where_is_it() -> None:
    cluster = Cluster(workers=2)
    cluster.submit(cluster.add_client(), {"a": []})
    cluster.run_all()
    asker = cluster.state.workers["tcp://w1:1"]
    cluster.state.handle_batch(asker, [RequestWhoHas(["a", "unknown"])], 1.0)
    answer = asker.outbox[-1]
    assert answer.who_has == [[worker.address for worker in cluster.state.tasks["a"].who_has], []]


def test_submitting_a_released_task_again_runs_it_again() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": ["a"]}, ["a", "b"])
    cluster.run_all()
    cluster.release(alice, ["a"])
    assert cluster.state.tasks["a"].state == "released"
    cluster.submit(alice, {"a": []}, ["a"])
    assert cluster.run_all() == ["a"]
    assert cluster.heard["alice"]["a"] == "finished"


def test_story_tells_a_task_s_transitions() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"a": []})
    cluster.run_all()
    story = [(start, finish) for _, start, finish, _, _ in cluster.state.story("a")]
    assert story == [("released", "waiting"), ("waiting", "processing"), ("processing", "memory")]


def test_absent_pair_raises_with_the_story() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"a": []})
    with pytest.raises(UnknownTransition, match=r"from 'processing' to 'queued'[\s\S]*'waiting', 'processing'"):
        cluster.state.settle({cluster.state.tasks["a"]: "queued"})


def test_invariants_notice_damage() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"a": []})
    check(cluster.state)
    cluster.state.workers["tcp://w0:1"].processing.clear()
    with pytest.raises(InvariantError, match="'a'"):
        check(cluster.state)


def _damage(state: SchedulerCore, what: str) -> None:
    worker = state.workers["tcp://w0:1"]
    match what:
        case "idle":
            state.idle.clear()
        case "saturated":
            state.saturated[worker] = None
        case "open":
            state.open_workers.clear()
        case "running":
            state.running.clear()
        case "total_occupancy":
            state.total_occupancy += 1
        case "nbytes_total":
            state.tasks["a"].group.nbytes_total += 1
        case "counts":
            state.tasks["a"].group.count += 1
        case "claimed_resources":
            worker.claimed_resources["GPU"] = 1
        case "executing":
            worker.executing[state.tasks["a"]] = 1.0
        case "no row of the table":
            state.move(state.tasks["a"], "queued")
            state.move(state.tasks["a"], "memory")
        case "functions":
            function = state.tasks["a"].function
            assert function is not None
            function.users += 1


@pytest.mark.parametrize(
    ("what", "said"),
    [
        *[(name, name) for name in ("idle", "saturated", "open", "running", "total_occupancy", "nbytes_total")],
        *[(name, name) for name in ("counts", "claimed_resources", "no row of the table", "functions")],
        ("executing", "what runs is processing there"),
    ],
)
def test_invariants_notice_wrong_totals(what: str, said: str) -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"a": []})
    cluster.run_all()
    check(cluster.state)
    _damage(cluster.state, what)
    with pytest.raises(InvariantError, match=said):
        check(cluster.state)


@pytest.mark.parametrize("fail", [False, True])
def test_fire_and_forget_outlives_the_client_and_leaves_nothing(fail: bool) -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": ["a"]}, ["b"])
    cluster.state.handle(alice, DesireKeys(["b"], until_done=True), 0.0)
    cluster.drain()
    cluster.state.remove_client("alice", 1.0)
    cluster.drain()
    assert cluster.state.tasks["b"].state == "waiting"
    cluster.run_one("tcp://w0:1")
    cluster.run_one("tcp://w0:1", fail=fail)
    assert not cluster.state.tasks


def test_a_worker_that_rejoins_keeps_what_it_holds() -> None:
    cluster = Cluster(workers=0)
    alice = cluster.add_client()
    cluster.add_worker("tcp://w0:1", server_id="one")
    cluster.submit(alice, {"a": [], "b": ["a"], "c": ["b"], "d": []}, ["c", "d"])
    tasks = cluster.state.tasks
    attempts = {task.key: task.attempt for task in tasks.values() if task.state == "processing"}
    assert "a" in attempts
    # it has finished "a" without our hearing of it, and lost the order for the rest
    cluster.add_worker("tcp://w0:1", held={"a": 8, "strange": 1}, server_id="one")
    assert tasks["a"].state == "memory"
    assert tasks["a"].get_nbytes() == 8
    assert tasks["b"].state == "processing"
    assert all(tasks[key].attempt > attempt for key, attempt in attempts.items() if key != "a")
    assert any(isinstance(message, FreeKeys) and "strange" in message.keys for message in cluster.inbox["tcp://w0:1"])
    assert all(task.suspicious == 0 for task in tasks.values())
    # and again, now without it
    cluster.add_worker("tcp://w0:1", server_id="one")
    assert tasks["a"].state == "processing"
    assert tasks["b"].state == "waiting"


def test_tasks_of_a_worker_that_comes_back_are_pardoned() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"x": []})
    task = cluster.state.tasks["x"]
    cluster.remove_worker("tcp://w0:1")
    assert (task.suspicious, task.prefix.suspicious) == (1, 1)
    membership.pardon([task])
    assert (task.suspicious, task.prefix.suspicious) == (0, 0)


def test_a_task_that_is_placed_anew_does_not_lose_what_it_needs() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"a": [], "b": ["a"]}, ["b"])
    cluster.run_one("tcp://w0:1")
    tasks = cluster.state.tasks
    worker = cluster.state.workers["tcp://w0:1"]
    assert (tasks["a"].state, tasks["b"].state) == ("memory", "processing")
    cluster.state.handle_batch(worker, [RescheduleTask("b", tasks["b"].attempt)], cluster.now)
    assert (tasks["a"].state, tasks["b"].state) == ("memory", "processing")
