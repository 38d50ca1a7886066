"""What the simulation found when workers die, come back, or say things late; each as small as it can be told."""

from __future__ import annotations

from typing import Any

from headrace.messages.client import CancelledKeys, TaskErred
from headrace.messages.worker import (
    AddKeys,
    ComputeTask,
    FreeKeys,
    MissingData,
    ReleasedData,
    RequestWhoHas,
    TaskFinished,
    WorkerHeartbeat,
)
from headrace.scheduler.state.flow.membership import pardon, suspects
from headrace.scheduler.state.records.workers import WorkerState
from headrace.worker.state import WorkerCore as Worker
from headrace.worker.state import events
from tests.scheduler.state.drive import Cluster

W0, W1 = "tcp://w0:1", "tcp://w1:1"


def record(address: str, server_id: str, **fields: Any) -> WorkerState:
    return WorkerState(address, server_id=server_id, **fields)


def freed(cluster: Cluster, address: str) -> list[Any]:
    return [key for message in cluster.inbox[address] if isinstance(message, FreeKeys) for key in message.keys]


def test_failure_and_loss_in_one_death() -> None:
    """The task that killed the worker is to blame, and what only it and its dependents needed is not run again."""
    cluster = Cluster(workers=1, allowed_failures=0)
    alice = cluster.add_client()
    cluster.submit(alice, {"held": [], "mid": ["held"], "killer": ["mid"], "end": ["killer", "held"]}, ["end"])
    assert [cluster.run_one(W0), cluster.run_one(W0)] == ["held", "mid"]
    cluster.add_worker(W1)
    cluster.remove_worker(W0)
    assert cluster.heard["alice"] == {"end": "error"}
    (message,) = [m for m in cluster.messages["alice"] if isinstance(m, TaskErred)]
    assert message.blame == "killer"
    assert cluster.to_run(W1) == []


def test_only_what_was_probably_running_is_blamed() -> None:
    cluster = Cluster(workers=1, allowed_failures=0, saturation=float("inf"))
    alice = cluster.add_client()
    cluster.submit(alice, {"first": [], "second": [], "third": []})
    worker = cluster.state.workers[W0]
    assert [task.key for task in suspects(worker)] == ["first"]
    cluster.state.on_heartbeat(worker, WorkerHeartbeat(1.0, {}, {"second": 0.5}), 1.0, 30.0)
    assert [task.key for task in suspects(worker)] == ["second"]
    cluster.add_worker(W1)
    cluster.remove_worker(W0)
    assert cluster.run_all() == ["first", "third"]
    assert cluster.heard["alice"] == {"first": "finished", "second": "error", "third": "finished"}


def test_task_without_its_data_is_suspected_last() -> None:
    cluster = Cluster(workers=2, saturation=float("inf"))
    alice = cluster.add_client()
    cluster.submit(alice, {"data": []})
    cluster.run_all()
    (holder,) = cluster.state.tasks["data"].who_has
    other = next(worker for worker in cluster.state.workers.values() if worker is not holder)
    cluster.state.set_worker_status(holder, "paused", 1.0)
    cluster.submit(alice, {"waits": ["data"]})
    cluster.submit(alice, {"runs": []})
    assert [task.key for task in other.processing] == ["waits", "runs"]
    assert [task.key for task in suspects(other)] == ["runs"]


def test_seceded_task_is_suspected_when_there_is_no_other() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"long": []})
    worker = cluster.state.workers[W0]
    task = cluster.state.tasks["long"]
    worker.long_running.add(task)
    assert suspects(worker) == [task]


def test_worker_that_comes_back_clears_its_tasks() -> None:
    cluster = Cluster(workers=1, allowed_failures=0)
    cluster.submit(cluster.add_client(), {"task": []})
    suspected = suspects(cluster.state.workers[W0])
    cluster.state.options = type(cluster.state.options)(validate=True, allowed_failures=3)
    cluster.remove_worker(W0)
    assert cluster.state.tasks["task"].suspicious == 1
    pardon(suspected)
    assert cluster.state.tasks["task"].suspicious == 0


def test_worker_that_registers_again_unnoticed_keeps_what_it_holds() -> None:
    cluster = Cluster(workers=1)
    cluster.state.workers[W0].server_id = "same"
    alice = cluster.add_client()
    cluster.state.add_data(alice, {"data": [W0]}, {"data": 100}, {}, 0.0)
    cluster.submit(alice, {"task": ["data"]})
    cluster.state.add_worker(record(W0, "same"), {"data": 100}, 1.0)
    cluster.drain()
    assert cluster.heard["alice"] == {"data": "finished"}
    assert cluster.state.tasks["task"].suspicious == 0
    assert freed(cluster, W0) == []
    cluster.run_all()
    assert cluster.heard["alice"] == {"data": "finished", "task": "finished"}


def test_data_that_a_client_is_about_to_tell_of_is_left_to_a_worker_that_registers() -> None:
    """Freed, it would be on record later, and nowhere."""
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    held = {"coming": 100, "left over": 100}
    cluster.state.add_worker(record(W0, "same"), held, 1.0, scattered=["coming"])
    cluster.drain()
    assert freed(cluster, W0) == ["left over"]
    cluster.state.add_data(alice, {"coming": [W0]}, {"coming": 100}, {}, 2.0)
    assert cluster.state.tasks["coming"].who_has == {cluster.state.workers[W0]}


def test_another_process_at_the_same_address_is_a_death() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"task": []})
    cluster.state.add_worker(record(W0, "another"), {}, 1.0)
    assert cluster.state.tasks["task"].suspicious == 1
    assert cluster.state.tasks["task"].processing_on is cluster.state.workers[W0]


def test_worker_is_not_told_to_free_what_it_came_with_and_is_needed() -> None:
    """The dependent was processing at the old process: for a moment nobody needs the data."""
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"data": [], "use": ["data"]}, ["use"])
    assert cluster.run_one(W0) == "data"
    cluster.inbox[W0].clear()
    cluster.state.add_worker(record(W0, "another"), {"data": 8}, 1.0)
    cluster.drain()
    held = cluster.state.tasks["data"].who_has
    assert not (held and "data" in freed(cluster, W0))
    cluster.run_all()
    assert cluster.heard["alice"] == {"use": "finished"}


def test_results_that_come_with_a_worker_run_nothing_that_they_make_superfluous() -> None:
    cluster = Cluster(workers=0)
    cluster.submit(cluster.add_client(), {"low": [], "mid": ["low"], "top": ["mid"]}, ["top"])
    cluster.add_worker(W0, {"top": 8, "low": 8})
    assert cluster.heard["alice"] == {"top": "finished"}
    assert cluster.to_run(W0) == []


def test_late_result_of_an_assignment_that_was_called_off_is_no_copy() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.submit(alice, {"task": []})
    task = cluster.state.tasks["task"]
    first = task.processing_on
    assert first is not None
    late = TaskFinished("task", task.attempt, 8, "int", 0.0, 0.1)
    cluster.cancel(alice, ["task"])
    cluster.state.set_worker_status(first, "paused", 0.5)
    cluster.submit(alice, {"task": []})
    cluster.run_all()
    cluster.state.handle_batch(first, [late], 1.0)
    assert first not in cluster.state.tasks["task"].who_has


def test_result_from_before_the_connection_broke_is_welcome() -> None:
    cluster = Cluster(workers=2)
    cluster.submit(cluster.add_client(), {"task": []})
    task = cluster.state.tasks["task"]
    first, attempt = task.processing_on, task.attempt
    assert first is not None
    cluster.remove_worker(first.address)
    again = cluster.add_worker(first.address)
    cluster.state.handle_batch(again, [TaskFinished("task", attempt, 8, "int", 0.0, 1.0)], 1.0)
    cluster.drain()
    assert cluster.heard["alice"] == {"task": "finished"}
    assert task.who_has == {again}


def test_copy_of_a_result_that_is_missing_is_welcome() -> None:
    cluster = Cluster(workers=2)
    cluster.submit(cluster.add_client(), {"task": []})
    task = cluster.state.tasks["task"]
    other = next(worker for worker in cluster.state.workers.values() if worker is not task.processing_on)
    cluster.state.handle_batch(other, [AddKeys(["task"])], 1.0)
    cluster.drain()
    assert task.who_has == {other}
    assert cluster.heard["alice"] == {"task": "finished"}


def test_worker_says_when_it_frees_a_copy_that_it_announced() -> None:
    """The announcement and the order to free may cross."""
    worker = Worker(address=W0, validate=True)
    worker.handle(events.DataStored({"data": 8}))
    worker.drain()
    worker.handle(FreeKeys(["data"]))
    assert worker.drain().messages == [ReleasedData("data")]


def test_worker_that_asks_for_data_does_not_have_them() -> None:
    """Else it would be sent to itself for ever."""
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"data": []})
    cluster.run_all()
    worker = cluster.state.workers[W0]
    cluster.state.handle_batch(worker, [RequestWhoHas(["data"])], 1.0)
    assert [message.who_has for message in worker.outbox if not isinstance(message, FreeKeys | ComputeTask)] == [[[]]]
    cluster.drain()
    assert cluster.heard["alice"] == {"data": "pending"}


def test_holder_that_is_found_without_data_is_to_free_them() -> None:
    """It may have them again by the time that it hears of it, and nobody would know."""
    cluster = Cluster(workers=2)
    cluster.submit(cluster.add_client(), {"data": []})
    cluster.run_all()
    (holder,) = cluster.state.tasks["data"].who_has
    asker = next(worker for worker in cluster.state.workers.values() if worker is not holder)
    cluster.state.handle_batch(asker, [MissingData("data", holder.address)], 1.0)
    cluster.drain()
    assert "data" in freed(cluster, holder.address)


def test_messages_of_a_worker_that_has_gone_are_not_taken() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.submit(alice, {"task": []})
    cluster.run_all()
    gone = next(w for w in cluster.state.workers.values() if w not in cluster.state.tasks["task"].who_has)
    cluster.remove_worker(gone.address)
    cluster.state.handle_batch(gone, [AddKeys(["task"])], 1.0)
    assert gone not in cluster.state.tasks["task"].who_has


def test_data_whose_holder_left_before_the_scheduler_heard_of_it() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.state.add_data(alice, {"data": ["tcp://gone:1"]}, {"data": 8}, {}, 0.0)
    cluster.drain()
    (message,) = cluster.messages["alice"]
    assert isinstance(message, CancelledKeys)
    assert "lost with the last worker" in message.reason


def test_a_task_that_makes_worker_after_worker_leave_is_given_up() -> None:
    """Nobody says that it was the task; it would wait for ever, and so would what needs it."""
    cluster = Cluster(workers=1, allowed_failures=1)
    cluster.submit(cluster.add_client(), {"leaves": [], "use": ["leaves"], "other": []}, ["use", "other"])
    task = cluster.state.tasks["leaves"]
    left = 0
    while task.state == "processing":
        cluster.add_worker(f"tcp://another{left}:1")
        worker = task.processing_on
        assert worker is not None
        cluster.state.set_worker_status(worker, "closing", 1.0)
        cluster.remove_worker(worker.address, expected=True)
        left += 1
    assert left == 2
    cluster.run_all()
    assert cluster.heard["alice"] == {"use": "error", "other": "finished"}


def test_a_task_whose_worker_says_that_it_was_closed_by_it_is_suspected_once() -> None:
    """The connection, the nanny and the worker itself all tell of the same end."""
    cluster = Cluster(workers=2)
    cluster.submit(cluster.add_client(), {"closes": []})
    task = cluster.state.tasks["closes"]
    worker = task.processing_on
    assert worker is not None
    cluster.state.set_worker_status(worker, "paused", 1.0)  # its connection broke
    cluster.remove_worker(worker.address, blamed=["closes"])
    cluster.state.remove_worker(worker.address, "its nanny tells of its death", 2.0)
    assert task.suspicious == 1
    cluster.run_all()
    assert cluster.heard["alice"] == {"closes": "finished"}
