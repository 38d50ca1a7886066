"""How many workers may go under a task: that die, that are closed by it, and that leave in good order."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.messages.client import TaskErred
from headrace.messages.worker import AddKeys, TaskFinished
from headrace.scheduler.state.flow.membership import DEPARTURES_PER_DEATH
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState
from tests.scheduler.state.drive import Cluster


def submitted(cluster: Cluster, key: str = "task") -> TaskState:
    cluster.submit(cluster.add_client(), {key: []})
    return cluster.state.tasks[key]


def runs_on(task: TaskState) -> WorkerState:
    assert task.processing_on is not None
    return task.processing_on


def close(cluster: Cluster, worker: WorkerState) -> None:
    """It says that it closes, and goes."""
    cluster.state.set_worker_status(worker, "closing", cluster.now)
    cluster.remove_worker(worker.address, expected=True)


def failure(cluster: Cluster) -> str:
    (message,) = [message for message in cluster.messages["alice"] if isinstance(message, TaskErred)]
    return message.exception_text


def finish(cluster: Cluster, task: TaskState) -> None:
    worker = runs_on(task)
    cluster.state.handle_batch(worker, [TaskFinished(task.key, task.attempt, 8, "int", 0.0, 1.0)], 1.0)
    cluster.drain()


def test_only_the_task_that_closed_its_worker_is_to_blame() -> None:
    cluster = Cluster(workers=1, nthreads=2, allowed_failures=0)
    cluster.submit(cluster.add_client(), {"closes": [], "innocent": []})
    cluster.add_worker("tcp://w1:1")
    cluster.remove_worker("tcp://w0:1", blamed=["closes"])
    assert failure(cluster).startswith("task 'closes' was running on 1 workers that died")
    assert cluster.state.tasks["innocent"].suspicious == 0
    cluster.run_all()
    assert cluster.heard["alice"] == {"closes": "error", "innocent": "finished"}


def test_a_task_that_ends_and_takes_its_result_with_it_is_to_blame() -> None:
    """Else it would be computed anew, and end one worker after the other, for good."""
    cluster = Cluster(workers=1, allowed_failures=1)
    cluster.submit(cluster.add_client(), {"closes": [], "next": ["closes"]}, ["next"])
    task = cluster.state.tasks["closes"]
    for number in (1, 2):
        worker = runs_on(task)
        finish(cluster, task)
        cluster.add_worker(f"tcp://w{number}:1")
        cluster.remove_worker(worker.address, blamed=["closes"])
        assert task.suspicious == number
    assert cluster.heard["alice"] == {"next": "error"}
    assert task.state == "erred"


def test_a_task_whose_result_is_elsewhere_too_has_done_no_harm() -> None:
    cluster = Cluster(workers=2, allowed_failures=0)
    task = submitted(cluster)
    first = runs_on(task)
    finish(cluster, task)
    (other,) = [worker for worker in cluster.state.workers.values() if worker is not first]
    cluster.state.handle_batch(other, [AddKeys(["task"])], 1.0)
    cluster.remove_worker(first.address, blamed=["task"])
    assert task.suspicious == 0
    assert cluster.heard["alice"] == {"task": "finished"}


@pytest.mark.parametrize(
    ("workers", "allowed_failures", "may_leave"), [(1, 3, 3), (12, 3, 6), (8, 3, 4), (30, 0, 5), (1, 0, 1)]
)
def test_how_many_may_leave_under_a_task(workers: int, allowed_failures: int, may_leave: int) -> None:
    """As many as others are there then, or as many as may die; never more than some times that."""
    cluster = Cluster(workers=workers, allowed_failures=allowed_failures)
    task = submitted(cluster)
    for number in range(may_leave):
        if workers == 1:
            cluster.add_worker(f"tcp://another{number}:1")
        close(cluster, runs_on(task))
        assert task.state == "processing"
    cluster.add_worker("tcp://last:1")
    worker = runs_on(task)
    cluster.state.set_worker_status(worker, "closing", 1.0)
    cluster.drain()
    assert failure(cluster).startswith(
        f"task 'task' was running on {may_leave + 1} workers that left; the last was tcp:"
    )
    assert (task.suspicious, task.prefix.suspicious) == (0, 0)
    close(cluster, worker)
    assert task.state == "erred"


def test_more_may_be_sent_away() -> None:
    cluster = Cluster(workers=1, allowed_failures=1)
    task = submitted(cluster)
    for number in range(DEPARTURES_PER_DEATH * 2):
        cluster.add_worker(f"tcp://another{number}:1")
        cluster.remove_worker(runs_on(task).address, expected=True)
        assert task.state == "processing"
    cluster.remove_worker(runs_on(task).address, expected=True)
    assert "11 workers that left" in failure(cluster)


def test_a_departure_counts_once_and_only_for_what_ran() -> None:
    cluster = Cluster(workers=1, saturation=float("inf"))
    cluster.submit(cluster.add_client(), {"runs": [], "waits": []})
    close(cluster, cluster.state.workers["tcp://w0:1"])
    runs, waits = cluster.state.tasks["runs"], cluster.state.tasks["waits"]
    assert (runs.rare.departures, waits.rare.departures) == (1, 0)


def test_what_has_seceded_may_end_until_its_worker_has_gone() -> None:
    cluster = Cluster(workers=1)
    task = submitted(cluster)
    worker = runs_on(task)
    worker.long_running.add(task)
    cluster.state.set_worker_status(worker, "closing", 0.0)
    assert task.rare.departures == 0
    cluster.remove_worker(worker.address, expected=True)
    assert (task.rare.departures, task.suspicious) == (1, 0)


def test_registering_again_is_no_departure() -> None:
    cluster = Cluster(workers=0)
    cluster.add_worker("tcp://w0:1", server_id="same")
    task = submitted(cluster)
    cluster.add_worker("tcp://w0:1", server_id="same")
    assert (task.rare.departures, task.suspicious) == (0, 0)


def test_the_exception_is_made_from_what_is_known() -> None:
    made: list[Any] = []

    def payload(key: Any, worker: WorkerState, allowed: int, cause: str) -> bytes:
        made.append((key, worker.address, allowed, cause))
        return b"exception"

    cluster = Cluster(workers=1, allowed_failures=0, left_payload=payload)
    submitted(cluster)
    for _ in range(2):
        cluster.state.set_worker_status(cluster.state.workers["tcp://w0:1"], "closing", 0.0, "received SIGTERM")
        cluster.remove_worker("tcp://w0:1", expected=True)
        cluster.add_worker("tcp://w0:1")
    assert made == [("task", "tcp://w0:1", 1, "it closed: received SIGTERM")]
