"""Where tasks go: data, load, restrictions, queueing and runs of root-like tasks."""

from __future__ import annotations

import math
import random

import pytest

from headrace.messages.base import TaskOptions
from headrace.scheduler.state.placing.placement import is_root_like
from tests.scheduler.state.drive import Cluster


def placed(cluster: Cluster) -> dict[str, list[str]]:
    return {address: [task.key for task in cluster.to_run(address)] for address in cluster.inbox}


def finish_on(cluster: Cluster, address: str, key: str, nbytes: int, seconds: float = 0.001) -> None:
    """Let a worker answer for one task with a result of some size."""
    from headrace.messages.worker import TaskFinished

    (task,) = [task for task in cluster.to_run(address) if task.key == key]
    cluster.inbox[address].remove(task)
    cluster.now += seconds
    answer = TaskFinished(key, task.attempt, nbytes, "bytes", cluster.now - seconds, cluster.now)
    cluster.state.handle_batch(cluster.state.workers[address], [answer], cluster.now)
    cluster.drain()


def test_goes_where_the_data_is() -> None:
    cluster = Cluster(workers=3)
    alice = cluster.add_client()
    cluster.submit(alice, {"big": []}, options=TaskOptions(workers=["tcp://w1:1"]))
    cluster.submit(alice, {"small": []}, options=TaskOptions(workers=["tcp://w2:1"]))
    finish_on(cluster, "tcp://w1:1", "big", 10**9)
    finish_on(cluster, "tcp://w2:1", "small", 10)
    cluster.submit(alice, {"both": ["big", "small"]})
    assert placed(cluster)["tcp://w1:1"] == ["both"]


def test_leaves_a_busy_holder_for_an_idle_worker_when_moving_is_cheap() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.submit(alice, {"data": []}, options=TaskOptions(workers=["tcp://w0:1"]))
    finish_on(cluster, "tcp://w0:1", "data", 1000)
    cluster.submit(alice, {"first": ["data"]})
    cluster.submit(alice, {"second": ["data"]})
    assert placed(cluster) == {"tcp://w0:1": ["first"], "tcp://w1:1": ["second"]}


def test_few_tasks_spread_over_idle_workers() -> None:
    cluster = Cluster(workers=4)
    cluster.submit(cluster.add_client(), {f"f{n}": [] for n in range(4)})
    assert sorted(map(len, placed(cluster).values())) == [1, 1, 1, 1]


def test_surplus_root_tasks_queue_and_flow() -> None:
    cluster = Cluster(workers=2, saturation=1.0)
    cluster.submit(cluster.add_client(), {f"f-{n}": [] for n in range(10)})
    assert sorted(map(len, placed(cluster).values())) == [1, 1]
    assert len(cluster.state.queued) == 8
    assert [task.key for task in cluster.state.queued] == [f"f-{n}" for n in range(2, 10)]
    assert len(cluster.run_all()) == 10
    assert not cluster.state.queued


def test_short_root_tasks_are_sent_ahead_of_need() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"f-9999": []})
    finish_on(cluster, "tcp://w0:1", "f-9999", 8, seconds=1e-5)
    cluster.submit(alice, {f"f-{n}": [] for n in range(1000)})
    ahead = len(placed(cluster)["tcp://w0:1"])
    assert 100 <= ahead < 1000
    assert len(cluster.state.queued) == 1000 - ahead


def test_without_saturation_all_go_at_once_in_runs_of_neighbours() -> None:
    cluster = Cluster(workers=2, saturation=math.inf)
    cluster.submit(cluster.add_client(), {f"f-{n}": [] for n in range(10)})
    first, second = placed(cluster).values()
    assert sorted([first, second]) == [[f"f-{n}" for n in range(5)], [f"f-{n}" for n in range(5, 10)]]


def test_neighbours_lie_together() -> None:
    cluster = Cluster(workers=2, nthreads=2, saturation=1.0)
    cluster.submit(cluster.add_client(), {f"f-{n}": [] for n in range(16)})
    assert sorted(placed(cluster).values()) == [["f-0", "f-1"], ["f-2", "f-3"]]


def test_what_is_root_like() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    leaves: dict[str, list[str]] = {f"leaf-{n}": [] for n in range(20)}
    cluster.submit(alice, {**leaves, **{f"sum-{n}": [f"leaf-{n}"] for n in range(20)}, "one": []})
    tasks = cluster.state.tasks
    assert is_root_like(cluster.state, tasks["leaf-3"])
    assert not is_root_like(cluster.state, tasks["sum-3"])
    assert not is_root_like(cluster.state, tasks["one"])


def test_worker_restrictions_by_address_name_and_host() -> None:
    cluster = Cluster(workers=0)
    cluster.add_worker("tcp://10.0.0.1:1", name="alice")
    cluster.add_worker("tcp://10.0.0.2:1", name="bob")
    client = cluster.add_client()
    cluster.submit(client, {"a": []}, options=TaskOptions(workers=["tcp://10.0.0.2:1"]))
    cluster.submit(client, {"b": []}, options=TaskOptions(workers=["bob"]))
    cluster.submit(client, {"c": []}, options=TaskOptions(workers=["10.0.0.2"]))
    assert placed(cluster) == {"tcp://10.0.0.1:1": [], "tcp://10.0.0.2:1": ["a", "b", "c"]}


def test_unmet_restrictions_wait_for_a_worker_or_give_way_when_loose() -> None:
    cluster = Cluster(workers=1)
    client = cluster.add_client()
    cluster.submit(client, {"strict": []}, options=TaskOptions(workers=["absent"]))
    cluster.submit(client, {"gpu": []}, options=TaskOptions(resources={"GPU": 1}))
    cluster.submit(client, {"loose": []}, options=TaskOptions(workers=["absent"], allow_other_workers=True))
    assert placed(cluster) == {"tcp://w0:1": ["loose"]}
    assert {task.key for task in cluster.state.unrunnable} == {"strict", "gpu"}
    cluster.add_worker("tcp://w9:1", name="absent", resources={"GPU": 2})
    assert sorted(placed(cluster)["tcp://w9:1"]) == ["gpu", "strict"]
    cluster.run_all()
    assert set(cluster.heard["alice"].values()) == {"finished"}


def test_without_workers_tasks_wait_and_are_not_lost() -> None:
    cluster = Cluster(workers=0)
    cluster.submit(cluster.add_client(), {f"f-{n}": [] for n in range(5)})
    assert len(cluster.state.unrunnable) == 5
    cluster.add_worker("tcp://w0:1")
    assert len(cluster.run_all()) == 5


def test_an_idle_cluster_has_no_occupancy_left_over() -> None:
    """Sums of seconds drift, and a rest of 1e-17 s would be work that never ends."""
    cluster = Cluster(workers=2, default_durations={"a": 0.1, "b": 0.2, "c": 0.7})
    alice = cluster.add_client()
    state = cluster.state
    cluster.submit(alice, {f"{name}-{number}": [] for name in ("a", "b", "c") for number in range(20)})
    choose = random.Random(3)
    while state.busy:
        cluster.run_one(choose.choice(sorted(worker.address for worker in state.busy)), choose=choose)
    assert (state.total_occupancy, state.busy) == (0.0, set())
    cluster.submit(alice, {"later": []})
    assert len(state.computations) == 2


def test_occupancy_is_the_sum_of_expected_costs() -> None:
    cluster = Cluster(workers=1, nthreads=4, default_durations={"known": 2.0}, unknown_duration=0.25)
    cluster.submit(cluster.add_client(), {"known-1": [], "other-1": []})
    worker = cluster.state.workers["tcp://w0:1"]
    assert worker.occupancy == pytest.approx(2.25)
    assert cluster.state.total_occupancy == pytest.approx(2.25)
    cluster.run_all()
    assert worker.occupancy == 0


def test_paused_worker_gets_nothing_and_resumes() -> None:
    cluster = Cluster(workers=1)
    worker = cluster.state.workers["tcp://w0:1"]
    cluster.state.set_worker_status(worker, "paused", 0.0)
    cluster.submit(cluster.add_client(), {f"f-{n}": [] for n in range(4)})
    assert placed(cluster)["tcp://w0:1"] == []
    cluster.state.set_worker_status(worker, "running", 1.0)
    cluster.drain()
    assert len(cluster.run_all()) == 4


def two_halves(limits: list[int]) -> Cluster:
    """Workers with these limits of memory; the results "left" and "right", of 60 bytes each, are on the first two."""
    cluster = Cluster(workers=0, too_large_payload=lambda text: text.encode())
    for number, limit in enumerate(limits):
        cluster.add_worker(f"tcp://w{number}:1", memory_limit=limit)
    alice = cluster.add_client()
    for number, key in enumerate(["left", "right"]):
        cluster.submit(alice, {key: []}, options=TaskOptions(workers=[f"tcp://w{number}:1"]))
        finish_on(cluster, f"tcp://w{number}:1", key, 60)
    return cluster


def test_what_no_worker_has_memory_for_errs() -> None:
    cluster = two_halves([100, 110])
    alice = cluster.state.clients["alice"]
    cluster.submit(alice, {"both": ["left", "right"], "after": ["both"]}, options=TaskOptions(retries=2))
    task = cluster.state.tasks["both"]
    assert (task.state, cluster.state.tasks["after"].state) == ("erred", "erred")
    assert task.exception_blame is task
    assert task.exception == task.exception_text.encode()
    assert "'both' has 120 B worth of input dependencies" in task.exception_text
    assert "memory_limit over 110 B" in task.exception_text
    cluster.submit(alice, {"half": ["left"]})
    assert cluster.state.tasks["half"].state == "processing"


@pytest.mark.parametrize("limit", [120, 0])
def test_the_worker_that_has_memory_for_it_runs_it(limit: int) -> None:
    cluster = two_halves([100, 110, limit])
    alice = cluster.state.clients["alice"]
    for number in (0, 1):
        cluster.submit(alice, {f"busy-{number}": []}, options=TaskOptions(workers=[f"tcp://w{number}:1"]))
    cluster.submit(alice, {"both": ["left", "right"]})
    assert "both" in placed(cluster)["tcp://w2:1"]
    cluster.submit(alice, {"here": ["left", "right"]}, options=TaskOptions(workers=["tcp://w0:1", "tcp://w1:1"]))
    assert cluster.state.tasks["here"].state == "erred"
