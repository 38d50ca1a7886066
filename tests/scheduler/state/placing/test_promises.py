"""Links of a chain that are sent along with what they need, and what becomes of them when that does not come."""

from __future__ import annotations

import pytest

from headrace.messages.base import TaskOptions
from headrace.messages.worker import ComputeTask, FreeKeys, RescheduleTask, StealAnswer, TaskFailed, TaskFinished
from headrace.scheduler.state.balance import steal_requests
from headrace.scheduler.state.placing import promises
from headrace.scheduler.state.placing.load import AHEAD_TASKS
from tests.scheduler.state.drive import Cluster

W0, W1 = "tcp://w0:1", "tcp://w1:1"


def chain_of(length: int, first: int = 0) -> dict[str, list[str]]:
    """`step-1` needs `step-0`, and so on."""
    links = range(first, first + length)
    return {f"step-{number}": [f"step-{number - 1}"] if number else [] for number in links}


def cluster_of_short_tasks(**options: object) -> Cluster:
    return Cluster(default_durations={"step": 0.001, "other": 0.001}, **options)  # type: ignore[arg-type]


def sent(cluster: Cluster, address: str = W0) -> list[str]:
    return sorted(task.key for task in cluster.to_run(address))


def promised(cluster: Cluster) -> dict[str, str]:
    return {task.key: worker.address for task, worker in cluster.state.promises.workers.items()}


def test_chain_goes_to_a_worker_as_a_whole_and_waits_on_record() -> None:
    cluster = cluster_of_short_tasks()
    cluster.submit(cluster.add_client(), chain_of(4), ["step-3"])
    assert sent(cluster) == ["step-0", "step-1", "step-2", "step-3"]
    assert promised(cluster) == {"step-1": W0, "step-2": W0, "step-3": W0}
    assert [cluster.state.tasks[f"step-{number}"].state for number in range(4)] == ["processing", *["waiting"] * 3]
    assert cluster.run_one(W0) == "step-0"
    task = cluster.state.tasks["step-1"]
    assert (task.state, task.processing_on) == ("processing", cluster.state.workers[W0])
    assert cluster.run_all() == ["step-1", "step-2", "step-3"]
    assert cluster.heard["alice"] == {"step-3": "finished"}
    assert not promised(cluster)
    assert not cluster.state.promises.counts


def test_link_that_is_submitted_later_joins_its_chain() -> None:
    cluster = cluster_of_short_tasks()
    alice = cluster.add_client()
    for number in range(3):
        cluster.submit(alice, chain_of(1, number))
    assert sent(cluster) == ["step-0", "step-1", "step-2"]
    assert cluster.run_all() == ["step-0", "step-1", "step-2"]


@pytest.mark.parametrize(
    ("graph", "options"),
    [
        pytest.param({"step-0": [], "step-1": ["step-0"], "other-1": ["step-0"]}, None, id="two depend on it"),
        pytest.param({"step-0": [], "other-0": [], "step-1": ["step-0", "other-0"]}, None, id="it needs two"),
        pytest.param({"step-0": [], "long": ["step-0"]}, None, id="not known to be short"),
        pytest.param(chain_of(2), TaskOptions(workers=[W0]), id="restricted"),
        pytest.param(chain_of(2), TaskOptions(actor=True), id="an actor"),
    ],
)
def test_what_is_to_be_placed_when_it_can_run_is_not_promised(
    graph: dict[str, list[str]], options: TaskOptions | None
) -> None:
    cluster = cluster_of_short_tasks()
    cluster.submit(cluster.add_client(), graph, options=options)
    assert not promised(cluster)
    cluster.run_all()
    assert set(cluster.heard["alice"].values()) == {"finished"}


@pytest.mark.slow
def test_no_more_than_a_bound_is_promised_and_the_rest_follows() -> None:
    cluster = cluster_of_short_tasks(workers=1)
    length = 2 * AHEAD_TASKS + 10
    cluster.submit(cluster.add_client(), chain_of(length), [f"step-{length - 1}"])
    assert len(promised(cluster)) == AHEAD_TASKS
    assert len(cluster.run_all()) == length
    assert cluster.heard["alice"] == {f"step-{length - 1}": "finished"}


def test_cancelled_link_is_taken_back_with_those_behind_it() -> None:
    cluster = cluster_of_short_tasks()
    alice = cluster.add_client()
    cluster.submit(alice, chain_of(4))
    cluster.cancel(alice, ["step-2"])
    assert promised(cluster) == {"step-1": W0}
    assert sent(cluster) == ["step-0", "step-1"]


def test_failure_takes_back_what_was_to_follow() -> None:
    cluster = cluster_of_short_tasks()
    cluster.submit(cluster.add_client(), chain_of(3), ["step-2"])
    cluster.run_one(W0, fail=True)
    assert not promised(cluster)
    assert not sent(cluster)
    assert cluster.heard["alice"] == {"step-2": "error"}


def test_chain_moves_with_its_first_link_when_that_is_stolen() -> None:
    cluster = cluster_of_short_tasks()
    cluster.submit(cluster.add_client(), chain_of(3), ["step-2"])
    state = cluster.state
    first = state.tasks["step-0"]
    steal_requests.request(state, first, state.workers[W1])
    state.handle_batch(state.workers[W0], [StealAnswer("step-0", first.attempt, "ready")], cluster.now)
    cluster.drain()
    assert promised(cluster) == {"step-1": W1, "step-2": W1}
    assert FreeKeys(["step-1", "step-2"], 0) in cluster.inbox[W0]
    cluster.inbox[W0].clear()
    assert cluster.run_all() == ["step-0", "step-1", "step-2"]


def test_chain_starts_over_elsewhere_when_its_worker_dies() -> None:
    cluster = cluster_of_short_tasks()
    cluster.submit(cluster.add_client(), chain_of(3), ["step-2"])
    cluster.run_one(W0)
    cluster.remove_worker(W0)
    assert cluster.run_all() == ["step-0", "step-1", "step-2"]
    assert cluster.heard["alice"] == {"step-2": "finished"}


def test_task_under_which_a_worker_died_runs_alone() -> None:
    """Else it could not be told whether it or what follows it is to blame."""
    cluster = cluster_of_short_tasks()
    cluster.submit(cluster.add_client(), chain_of(2), ["step-1"])
    cluster.remove_worker(W0)
    assert cluster.state.tasks["step-0"].suspicious == 1
    assert sent(cluster, W1) == ["step-0"]
    assert cluster.run_all() == ["step-0", "step-1"]


def test_paused_worker_is_not_kept_to_its_promise() -> None:
    cluster = cluster_of_short_tasks()
    cluster.submit(cluster.add_client(), chain_of(2), ["step-1"])
    (task, *_) = cluster.to_run(W0)
    state = cluster.state
    state.set_worker_status(state.workers[W0], "paused", cluster.now)
    answers = [StealAnswer("step-0", task.attempt, "executing"), TaskFinished("step-0", task.attempt, 8, "int", 0, 1)]
    state.handle_batch(state.workers[W0], answers, cluster.now)
    cluster.drain()
    assert FreeKeys(["step-1"], 0) in cluster.inbox[W0]
    assert sent(cluster, W1) == ["step-1"]


def test_result_of_a_promised_task_may_come_before_what_it_needs() -> None:
    """The worker had it in memory, or was still at an earlier run of it."""
    cluster = cluster_of_short_tasks()
    cluster.submit(cluster.add_client(), chain_of(3), ["step-2"])
    state = cluster.state
    second = state.tasks["step-1"]
    answer = TaskFinished("step-1", second.attempt, 8, "int", 0.0, 0.001)
    state.handle_batch(state.workers[W0], [answer], cluster.now)
    cluster.drain()
    assert second.state == "memory"
    assert state.tasks["step-2"].processing_on is state.workers[W0]
    assert not [message for message in cluster.inbox[W0] if message == FreeKeys(["step-1"], 0)]


@pytest.mark.parametrize(
    "answer",
    [
        RescheduleTask("step-1", 2),
        TaskFailed("step-1", 2, b"e", b"t", "boom", "line 1", 0.0, 0.001),
        StealAnswer("step-1", 2, "ready"),
    ],
)
def test_promised_task_that_a_worker_gives_up_is_placed_when_it_can_run(
    answer: RescheduleTask | TaskFailed | StealAnswer,
) -> None:
    cluster = cluster_of_short_tasks()
    cluster.submit(cluster.add_client(), chain_of(2), ["step-1"])
    assert cluster.state.tasks["step-1"].attempt == answer.attempt
    cluster.state.handle_batch(cluster.state.workers[W0], [answer], cluster.now)
    cluster.drain()
    assert not promised(cluster)
    assert cluster.run_all() == ["step-0", "step-1"]
    assert cluster.heard["alice"] == {"step-1": "finished"}


def test_task_that_waits_for_its_next_attempt_is_not_promised() -> None:
    """What it needs was lost, and is computed again meanwhile."""
    policy = {"retries": {"count": 1, "delay": 5.0, "backoff": 1, "maximum_delay": None, "jitter": 0, "on": []}}
    cluster = cluster_of_short_tasks()
    alice = cluster.add_client()
    cluster.submit(alice, {"step-0": []})
    cluster.submit(alice, {"step-1": ["step-0"]}, options=TaskOptions(retries=1, annotations=policy))
    cluster.run_one(W0)
    cluster.run_one(W0, fail=True)
    cluster.remove_worker(W0)
    assert sent(cluster, W1) == ["step-0"]
    assert cluster.run_all() == ["step-0"]
    cluster.now += 6
    cluster.state.on_retries_due(cluster.now)
    cluster.drain()
    assert cluster.run_all() == ["step-1"]


def test_withdrawing_what_is_not_promised_does_nothing() -> None:
    cluster = cluster_of_short_tasks()
    cluster.submit(cluster.add_client(), chain_of(1))
    promises.withdraw(cluster.state, cluster.state.tasks["step-0"])
    assert [type(message) for message in cluster.inbox[W0]][-1] is ComputeTask
