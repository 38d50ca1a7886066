"""Every documented attribute of the scheduler's `WorkerState`, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Client, Scheduler, Worker
from headrace.common.status import Status
from headrace.messages.base import TaskOptions
from headrace.messages.worker import LongRunning, TaskFinished, WorkerHeartbeat
from headrace.scheduler import WorkerState
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.scheduler.state.drive import Cluster

ADDRESS = "tcp://w0:1"


def only(cluster: Cluster) -> WorkerState:
    (worker,) = cluster.state.workers.values()
    return worker


def beat(cluster: Cluster, executing: dict[Any, float], **metrics: Any) -> None:
    cluster.state.on_heartbeat(only(cluster), WorkerHeartbeat(cluster.now, metrics, executing), cluster.now)


def learn(cluster: Cluster, prefix: str, seconds: float) -> None:
    cluster.state.tasks.new_group(prefix).prefix.observe(seconds)


def test_address_is_the_unique_key() -> None:
    cluster = Cluster(workers=2)
    assert {address: worker.address for address, worker in cluster.state.workers.items()} == {
        "tcp://w0:1": "tcp://w0:1",
        "tcp://w1:1": "tcp://w1:1",
    }


@pytest.mark.parametrize(
    ("address", "host"),
    [("tcp://192.0.2.1:8787", "192.0.2.1"), ("tls://[::1]:80", "::1"), ("inproc://192.0.2.7/12/3", "192.0.2.7")],
)
def test_host(address: str, host: str) -> None:
    assert WorkerState(address).host == host


def test_name_is_the_address_unless_given() -> None:
    assert WorkerState("tcp://w:1").name == "tcp://w:1"
    cluster = Cluster(workers=0)
    worker = cluster.add_worker("tcp://w:1", name="alice")
    assert worker.name == "alice"
    assert cluster.state.aliases == {"alice": "tcp://w:1"}


def test_nthreads() -> None:
    cluster = Cluster(workers=2, nthreads=3)
    assert [worker.nthreads for worker in cluster.state.workers.values()] == [3, 3]
    assert cluster.state.total_nthreads == 6


def test_processing_holds_expected_seconds_of_computing_and_transfer() -> None:
    cluster = Cluster(workers=0, bandwidth=100.0, unknown_duration=0.5)
    alice = cluster.add_client()
    cluster.add_worker("tcp://a:1", {})
    cluster.state.add_data(alice, {"data": ["tcp://a:1"]}, {"data": 50}, {}, 0.0)
    cluster.add_worker("tcp://b:1", {})
    options = TaskOptions(workers=["tcp://b:1"])
    cluster.submit(alice, {"never-ran-1": ["data"]}, options=options)
    task = cluster.state.tasks["never-ran-1"]
    worker = cluster.state.workers["tcp://b:1"]
    assert worker.processing == {task: pytest.approx(0.5 + 50 / 100)}, "default duration and transfer"
    learn(cluster, "ran-1", 3.0)
    cluster.submit(alice, {"ran-1": []}, options=options)
    assert worker.processing[cluster.state.tasks["ran-1"]] == pytest.approx(3.0), "the prefix's average"


def test_processing_becomes_twice_the_elapsed_time_of_an_overdue_task() -> None:
    cluster = Cluster(workers=1, nthreads=2)
    learn(cluster, "slow-1", 1.0)
    cluster.submit(cluster.add_client(), {"slow-1": [], "slow-2": []})
    worker, slow, other = only(cluster), cluster.state.tasks["slow-1"], cluster.state.tasks["slow-2"]
    beat(cluster, {"slow-1": 1.9})
    assert worker.processing == {slow: 1.0, other: 1.0}, "not twice the average yet"
    beat(cluster, {"slow-1": 2.5})
    assert worker.processing == {slow: 5.0, other: 1.0}
    assert worker.occupancy == cluster.state.total_occupancy == 6.0
    beat(cluster, {"slow-1": 3.0})
    assert worker.processing[slow] == 6.0
    cluster.run_all()
    assert not worker.processing
    assert worker.occupancy == cluster.state.total_occupancy == 0.0


def test_overdue_counts_from_the_default_for_prefixes_that_never_ran() -> None:
    cluster = Cluster(workers=1, unknown_duration=0.5)
    cluster.submit(cluster.add_client(), {"new-1": []})
    beat(cluster, {"new-1": 0.9})
    assert only(cluster).occupancy == 0.5
    beat(cluster, {"new-1": 1.5})
    assert only(cluster).occupancy == 3.0


def test_overdue_does_not_count_for_tasks_that_have_seceded() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"x-1": []})
    worker, task = only(cluster), cluster.state.tasks["x-1"]
    cluster.state.handle_batch(worker, [LongRunning("x-1", task.attempt, 0.1)], 0.0)
    beat(cluster, {"x-1": 100.0})
    assert worker.processing == {task: 0.0}
    assert worker.executing == {task: 100.0}


def test_overdue_tasks_make_a_worker_saturated() -> None:
    cluster = Cluster(workers=1)
    learn(cluster, "x-1", 0.001)
    cluster.submit(cluster.add_client(), {"x-1": [], "x-2": []})
    assert not cluster.state.saturated
    beat(cluster, {"x-1": 10.0})
    assert list(cluster.state.saturated) == [only(cluster)]


def test_executing_is_what_runs_with_seconds_so_far() -> None:
    cluster = Cluster(workers=1, nthreads=1)
    cluster.submit(cluster.add_client(), {"a": [], "b": []})
    worker, tasks = only(cluster), cluster.state.tasks
    assert worker.executing == {}
    beat(cluster, {"a": 0.25, "gone": 1.0})
    assert worker.executing == {tasks["a"]: 0.25}, "unknown keys are left out"
    cluster.run_one(ADDRESS)
    assert worker.executing == {}, "a finished task does not run"
    beat(cluster, {"a": 0.5, "b": 0.1})
    assert worker.executing == {tasks["b"]: 0.1}, "a heartbeat that is late does not make it run again"


def test_has_what_is_ordered_and_the_inverse_of_who_has() -> None:
    cluster = Cluster(workers=1)
    keys = [f"k-{number}" for number in (3, 1, 2)]
    cluster.submit(cluster.add_client(), {key: [] for key in keys})
    cluster.run_all()
    worker, tasks = only(cluster), [cluster.state.tasks[key] for key in keys]
    assert list(worker.has_what) == tasks
    assert all(task.who_has == {worker} for task in tasks)


def test_has_what_is_a_set() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"a": [], "b": []})
    cluster.run_all()
    a, b, held = cluster.state.tasks["a"], cluster.state.tasks["b"], only(cluster).has_what
    assert held == {a, b}
    assert held != {a}
    assert {a, b} == held
    assert held == dict.fromkeys((b, a))
    assert a in held
    assert held - {a} == {b}
    assert held & {a} == {a} & held == {a}
    assert held | {a} == set() | held == {a, b}
    assert repr(held) == f"{{{a!r}, {b!r}}}"


def test_nbytes_is_the_sum_over_has_what() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": [], "b": []})
    worker = only(cluster)
    for key, nbytes in (("a", 100), ("b", 20)):
        attempt = cluster.state.tasks[key].attempt
        cluster.state.handle_batch(worker, [TaskFinished(key, attempt, nbytes, "int", 0.0, 0.1)], 0.0)
    cluster.drain()
    assert worker.nbytes == 120
    cluster.release(alice, ["a"])
    assert worker.nbytes == 20


def test_used_resources_are_never_above_resources() -> None:
    cluster = Cluster(workers=0)
    worker = cluster.add_worker("tcp://gpu:1", resources={"GPU": 2.0, "license": 1.0})
    assert worker.resources == {"GPU": 2.0, "license": 1.0}
    assert worker.used_resources == {"GPU": 0.0, "license": 0.0}
    alice = cluster.add_client()
    cluster.submit(alice, {"first": []}, options=TaskOptions(resources={"GPU": 1.0}))
    assert worker.used_resources == {"GPU": 1.0, "license": 0.0}
    cluster.submit(alice, {f"more-{i}": [] for i in range(3)}, options=TaskOptions(resources={"GPU": 1.0}))
    assert len(worker.processing) == 4
    assert worker.used_resources == {"GPU": 2.0, "license": 0.0}
    cluster.run_all()
    assert worker.used_resources == {"GPU": 0.0, "license": 0.0}


def test_occupancy_is_the_sum_of_processing() -> None:
    cluster = Cluster(workers=1, nthreads=4)
    learn(cluster, "x-1", 0.25)
    cluster.submit(cluster.add_client(), {f"x-{i}": [] for i in range(1, 4)})
    worker = only(cluster)
    assert worker.occupancy == pytest.approx(0.75) == pytest.approx(sum(worker.processing.values()))


def test_last_seen_is_the_schedulers_clock() -> None:
    cluster = Cluster(workers=1)
    cluster.now = 50.0
    cluster.state.on_heartbeat(only(cluster), WorkerHeartbeat(1050.0, {}), cluster.now)
    assert only(cluster).last_seen == 50.0
    assert only(cluster).time_delay == 1000.0


def test_actors_are_the_tasks_whose_state_lives_there() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"plain": []})
    cluster.submit(alice, {"counter": []}, options=TaskOptions(actor=True))
    cluster.run_all()
    assert only(cluster).actors == {cluster.state.tasks["counter"]}


def test_metrics_and_bandwidth_are_what_the_worker_said() -> None:
    cluster = Cluster(workers=1, bandwidth=7.0)
    beat(cluster, {}, memory=1000, bandwidth={"total": 42.0})
    worker = only(cluster)
    assert worker.metrics["memory"] == 1000
    assert worker.bandwidth == 42.0
    beat(cluster, {}, bandwidth="nonsense")
    assert worker.bandwidth == 42.0


def test_memory_tells_managed_from_unmanaged() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"a": []})
    cluster.run_all()
    beat(cluster, {}, memory=100)
    memory = only(cluster).memory
    values = memory if isinstance(memory, dict) else {name: getattr(memory, name) for name in ("process", "managed")}
    assert values["process"] == 100
    assert values["managed"] == 8


@gen_cluster(nthreads=[("127.0.0.1", 3)], client=True)
async def test_what_a_real_worker_tells(c: Client, s: Scheduler, w: Worker) -> None:
    record = s.workers[w.address]
    assert record.nthreads == 3
    assert record.name == w.name
    assert record.memory_limit == w.memory_limit
    assert record.local_directory == w.local_directory
    assert record.services == w.service_ports
    assert record.nanny == w.nanny
    assert record.extra == {}
    assert record.pid > 0
    await async_poll_for(lambda: "cpu" in record.metrics, 15)
    assert record.identity()["name"] == w.name


@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True)
async def test_status_mirrors_the_worker(c: Client, s: Scheduler, w: Worker) -> None:
    record = s.workers[w.address]
    assert record.status is Status.running is w.status
    w.set_status(Status.paused)
    await async_poll_for(lambda: record.status is Status.paused, 15)
    w.set_status(Status.running)
    await async_poll_for(lambda: record.status is Status.running, 15)


def test_the_schedulers_bandwidths_are_what_workers_measure() -> None:
    cluster = Cluster(workers=2, bandwidth=100.0)
    state = cluster.state
    first, second = state.workers.values()

    def told(worker: WorkerState, **bandwidth: Any) -> None:
        state.on_heartbeat(worker, WorkerHeartbeat(cluster.now, {"bandwidth": bandwidth}), cluster.now)

    told(first, total=100.0, workers={}, types={}, measured=0)
    assert state.bandwidth == 100.0
    told(first, total=300.0, workers={second.address: (600.0, 2)}, types={"int": [600.0, 2]}, measured=2)
    assert state.bandwidth == 200.0, "half the way: it is one of two"
    assert state.bandwidth_workers == {(first.address, second.address): 300.0}
    assert state.bandwidth_types == {"int": 300.0}
    told(first, total=200.0, workers={second.address: (200.0, 2), "tcp://gone:1": (1.0, 1)}, types={"int": (100.0, 1)})
    assert state.bandwidth_workers == {(first.address, second.address): 150.0}, (
        "three quarters of the way, at two transfers"
    )
    assert state.bandwidth_types == {"int": 200.0}
    for nonsense in ("fast", -1.0, 0, float("nan"), None, [1]):
        told(first, total=nonsense, workers={second.address: (nonsense, 1)}, types={"int": nonsense})
        told(first, total=200.0, workers=nonsense, types=nonsense)
    assert state.bandwidth == 200.0
    assert state.bandwidth_types == {"int": 200.0}
    cluster.remove_worker(second.address)
    assert state.bandwidth_workers == {}


def test_placement_reckons_with_the_measured_bandwidth() -> None:
    """A large dependency on a busy worker: waiting for the worker beats a slow transfer, and not a fast one."""
    for speed, wanted in ((1e3, "tcp://w0:1"), (1e12, "tcp://w1:1")):
        cluster = Cluster(workers=0, bandwidth=1e6)
        first = cluster.add_worker("tcp://w0:1")
        alice = cluster.add_client()
        cluster.submit(alice, {"data": []})
        cluster.state.handle_batch(
            first, [TaskFinished("data", cluster.state.tasks["data"].attempt, 10**6, "x", 0.0, 1.0)], 0.0
        )
        cluster.drain()
        learn(cluster, "long", 10.0)
        cluster.submit(alice, {"long": []})
        second = cluster.add_worker("tcp://w1:1")
        for _ in range(100):
            for worker in (first, second):
                bandwidth = {"total": speed, "workers": {}, "types": {}, "measured": 1}
                cluster.state.on_heartbeat(worker, WorkerHeartbeat(0.0, {"bandwidth": bandwidth}), 0.0)
        cluster.submit(alice, {"use": ["data"]})
        assert cluster.state.tasks["use"].processing_on.address == wanted
