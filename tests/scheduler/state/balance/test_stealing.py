"""What is stolen by whom, on the pure state."""

from __future__ import annotations

import random

import pytest

from headrace.messages.base import TaskOptions
from headrace.messages.worker import AddKeys, ComputeTask, ReleasedData, RescheduleTask, StealRequest
from headrace.scheduler.state.balance import steal_requests
from headrace.scheduler.state.balance.stealing import (
    EVEN_LEVEL,
    LAST_LEVEL,
    balance,
    level,
)
from headrace.scheduler.state.data.memory_manager import MemoryManager, ReduceReplicas, RetireWorker
from headrace.scheduler.state.placing.occupancy import reevaluate, reevaluate_some
from tests.scheduler.state.balance.balanced import BalancedCluster

LOOSE = TaskOptions(workers=["tcp://w0:1"], allow_other_workers=True)


def crowded(count: int = 100, workers: int = 4, options: TaskOptions = LOOSE, seconds: float = 0.01) -> BalancedCluster:
    """All tasks on the first worker, of a kind whose duration is known."""
    cluster = BalancedCluster(workers, default_durations={"f": seconds})
    client = cluster.add_client()
    cluster.submit(client, {f"f-{number}": [] for number in range(count)}, options=options)
    assert len(cluster.worker(0).processing) == count
    return cluster


def look(cluster: BalancedCluster) -> int:
    asked = balance(cluster.state, cluster.now)
    cluster.drain()
    return asked


class TestLooks:
    def test_load_is_evened_out_in_one_look(self) -> None:
        cluster = crowded(100)
        assert 70 <= look(cluster) <= 75
        cluster.answer_all()
        counts = [len(worker.processing) for worker in cluster.state.workers.values()]
        assert max(counts) - min(counts) <= 3
        assert not cluster.state.steals.in_flight
        assert len(cluster.run_all()) == 100

    def test_with_unknown_durations_too(self) -> None:
        cluster = crowded(100, seconds=-1.0)
        look(cluster)
        cluster.answer_all()
        counts = [len(worker.processing) for worker in cluster.state.workers.values()]
        assert max(counts) - min(counts) <= 3

    def test_open_requests_count(self) -> None:
        cluster = crowded(100)
        look(cluster)
        assert look(cluster) == 0

    def test_what_would_run_last_is_taken(self) -> None:
        cluster = crowded(100)
        look(cluster)
        asked = {message.key for _, message in cluster.requests if isinstance(message, StealRequest)}
        assert "f-99" in asked
        assert "f-0" not in asked

    def test_nothing_is_asked_when_nobody_is_idle_or_nothing_is_left_over(self) -> None:
        assert look(BalancedCluster(2)) == 0
        cluster = crowded(2, workers=2)
        assert look(cluster) == 0  # 20 ms of work

    def test_strict_restrictions_hold(self) -> None:
        cluster = crowded(100, options=TaskOptions(workers=["tcp://w0:1"]))
        assert look(cluster) == 0
        cluster = crowded(100)
        state = cluster.state
        for task in state.tasks.values():
            task.options = TaskOptions(workers=["tcp://w0:1", "tcp://w2:1"])
        assert look(cluster) > 30
        assert {steal.thief.address for steal in state.steals.in_flight.values() if steal.thief} == {"tcp://w2:1"}

    def test_resources_and_actors_stay_where_they_can_be(self) -> None:
        cluster = crowded(100)
        for task in cluster.state.tasks.values():
            task.options = TaskOptions(actor=True)
        assert look(cluster) == 0
        for task in cluster.state.tasks.values():
            task.options = TaskOptions(resources={"GPU": 1})
        assert look(cluster) == 0
        cluster.state.set_resources(cluster.worker(3), {"GPU": 1}, cluster.now)
        assert look(cluster) > 30
        assert {steal.thief for steal in cluster.state.steals.in_flight.values()} == {cluster.worker(3)}

    def test_a_paused_worker_is_relieved_by_one_that_comes_later(self) -> None:
        cluster = crowded(10, workers=1)
        cluster.state.set_worker_status(cluster.worker(0), "paused", cluster.now)
        cluster.drain()
        assert not cluster.requests  # nobody else could run them
        cluster.add_worker("tcp://new:1")
        assert look(cluster) == 10

    def test_long_transfers_are_not_worth_it(self) -> None:
        cluster = BalancedCluster(2, default_durations={"g": 0.01})
        client = cluster.add_client()
        cluster.state.add_data(client, {"big": ["tcp://w0:1"]}, {"big": 10**9}, {"big": "bytes"}, cluster.now)
        graph = {f"g-{number}": ["big"] for number in range(100)}
        cluster.submit(client, graph, options=TaskOptions(workers=["tcp://w0:1"], allow_other_workers=True))
        assert len(cluster.worker(0).processing) == 100
        assert look(cluster) == 0
        cluster.state.bandwidth = 1e12
        assert look(cluster) > 30

    def test_levels_double(self) -> None:
        assert level(0, 1) == 0
        assert level(1, 1) == EVEN_LEVEL
        assert level(2, 1) == EVEN_LEVEL + 1
        assert level(1e-9, 1) == 1
        assert level(257, 1) is None
        assert level(256, 1) == LAST_LEVEL


class TestAnswers:
    def test_a_task_that_has_started_stays(self) -> None:
        cluster = crowded(100)
        look(cluster)
        key = cluster.requests[0][1].key
        (task,) = [t for t in cluster.to_run("tcp://w0:1") if t.key == key]
        cluster.inbox["tcp://w0:1"].remove(task)
        cluster.held["tcp://w0:1"].add(key)
        assert cluster.answer().state == "memory"
        assert cluster.state.tasks[key].processing_on is cluster.worker(0)
        assert key not in cluster.state.steals.in_flight

    def test_a_thief_that_has_gone_gets_nothing(self) -> None:
        cluster = crowded(100, workers=2)
        look(cluster)
        cluster.remove_worker("tcp://w1:1")
        cluster.answer_all()
        assert len(cluster.run_all()) == 100

    def test_a_victim_that_has_gone_is_forgotten(self) -> None:
        cluster = crowded(100, workers=2)
        look(cluster)
        cluster.remove_worker("tcp://w0:1")
        assert not cluster.state.steals.in_flight
        cluster.answer_all()
        assert len(cluster.run_all()) == 100

    def test_an_answer_to_an_assignment_that_has_passed_changes_nothing(self) -> None:
        cluster = crowded(100, workers=2)
        look(cluster)
        client = cluster.state.clients["alice"]
        cluster.release(client, ["f-99"])
        cluster.submit(client, {"f-99": []}, options=LOOSE)
        attempt = cluster.state.tasks["f-99"].attempt
        cluster.answer_all()
        assert cluster.state.tasks["f-99"].attempt == attempt
        assert len(cluster.run_all()) == 100

    def test_all_that_has_not_started_leaves_a_closing_worker(self) -> None:
        cluster = crowded(10, workers=2)
        cluster.state.set_worker_status(cluster.worker(0), "closing_gracefully", cluster.now)
        cluster.drain()
        assert all(type(message) is StealRequest for _, message in cluster.requests)
        cluster.answer_all()
        assert not cluster.worker(0).processing
        assert len(cluster.worker(1).processing) + len(cluster.state.queued) == 10

    def test_a_pausing_worker_gives_back_what_others_may_run(self) -> None:
        cluster = crowded(10, workers=2)
        client = cluster.state.clients["alice"]
        here_only = TaskOptions(workers=["tcp://w0:1"])
        cluster.submit(client, {"f-here": []}, options=here_only)
        first = cluster.inbox["tcp://w0:1"]
        started = next(message for message in first if isinstance(message, ComputeTask))
        cluster.state.set_worker_status(cluster.worker(0), "paused", cluster.now)
        cluster.drain()
        assert {message.key for _, message in cluster.requests} == {f"f-{number}" for number in range(10)}
        cluster.inbox["tcp://w0:1"].remove(started)
        cluster.held["tcp://w0:1"].add(started.key)  # it had finished before it was asked
        cluster.answer_all()
        assert {task.key for task in cluster.worker(0).processing} == {started.key, "f-here"}
        assert not cluster.state.steals.in_flight
        cluster.state.set_worker_status(cluster.worker(0), "running", cluster.now)
        assert cluster.state.tasks["f-here"].processing_on is cluster.worker(0)

    def test_what_comes_back_when_the_others_have_paused_too_runs_when_one_resumes(self) -> None:
        cluster = crowded(10, workers=2)
        for number in range(2):
            cluster.state.set_worker_status(cluster.worker(number), "paused", cluster.now)
        cluster.drain()
        cluster.answer_all()
        assert len(cluster.state.unrunnable) == 10
        cluster.state.set_worker_status(cluster.worker(0), "running", cluster.now)
        cluster.drain()
        assert not cluster.state.unrunnable
        assert len(cluster.run_all()) == 10

    def test_the_log_says_what_happened(self) -> None:
        cluster = crowded(100)
        look(cluster)
        cluster.answer_all()
        kinds = [line[0] for line in cluster.state.steals.log if line[2] == "f-99"]
        assert kinds == ["request", "confirm"]


class TestOccupancy:
    def test_a_task_that_runs_far_too_long_makes_its_worker_busy(self) -> None:
        cluster = crowded(2, workers=2)
        worker, state = cluster.worker(0), cluster.state
        first = state.tasks["f-0"]
        worker.executing = {first: 60.0}
        reevaluate(state, worker)
        assert worker.occupancy == pytest.approx(120.01)
        assert state.total_occupancy == pytest.approx(120.01)
        assert worker in state.saturated
        assert look(cluster) == 1  # the other one need not wait for it

    def test_unknown_tasks_take_at_least_as_long_as_one_has_taken_so_far(self) -> None:
        cluster = crowded(3, workers=2, seconds=-1.0)
        worker = cluster.worker(0)
        worker.executing = {cluster.state.tasks["f-0"]: 10.0}
        reevaluate(cluster.state, worker)
        assert worker.processing[cluster.state.tasks["f-2"]] == 10.0

    def test_what_was_learned_since_counts(self) -> None:
        cluster = crowded(10, workers=2, seconds=-1.0)
        assert cluster.worker(0).occupancy == pytest.approx(5.0)
        cluster.run_one("tcp://w0:1")
        reevaluate_some(cluster.state, 0, 1000)
        assert cluster.worker(0).occupancy == pytest.approx(0.09)
        cluster.run_all()
        assert cluster.state.total_occupancy == pytest.approx(0)

    def test_workers_are_gone_through_in_turn(self) -> None:
        cluster = crowded(10, workers=3)
        assert reevaluate_some(cluster.state, 0, 5) == 1
        assert reevaluate_some(cluster.state, 1, 5) == 1  # round to the first again
        assert reevaluate_some(cluster.state, 0, 50) == 0


@pytest.mark.parametrize("seed", range(100))
def test_whatever_is_stolen_copied_dropped_and_retired_nothing_is_lost(seed: int) -> None:
    chance = random.Random(seed)
    cluster = BalancedCluster(chance.randint(2, 4), chance.randint(1, 2), default_durations={"f": 0.1})
    state = cluster.state
    client = cluster.add_client()
    manager = MemoryManager(state, [ReduceReplicas()], "managed")
    data = {f"data-{number}": chance.choice(sorted(cluster.inbox)) for number in range(5)}
    for key, address in data.items():
        cluster.held[address].add(key)
    state.add_data(client, {k: [a] for k, a in data.items()}, dict.fromkeys(data, 10), {}, 0.0)
    cluster.drain()
    mine: list[str] = []
    retiring: list[RetireWorker] = []
    for step in range(chance.randint(30, 120)):
        action = chance.random()
        if action < 0.2:
            options = TaskOptions(workers=[chance.choice(sorted(cluster.inbox))], allow_other_workers=True)
            pool = [*data, *[key for key in mine if key in state.tasks]]
            graph = {f"f-{step}-{n}": chance.sample(pool, chance.randint(0, 2)) for n in range(chance.randint(1, 12))}
            cluster.submit(client, graph, options=options if chance.random() < 0.7 else None)
            mine += graph
        elif action < 0.3:
            balance(state, cluster.now)
        elif action < 0.4:
            manager.run_policies()
        elif action < 0.45:
            worker = chance.choice(sorted(state.workers.values(), key=lambda w: w.address))
            state.set_worker_status(worker, chance.choice(["paused", "running"]), cluster.now)
        elif action < 0.5 and len(state.running) > 1:
            worker = chance.choice(list(state.running))
            state.set_worker_status(worker, "closing_gracefully", cluster.now)
            retiring.append(RetireWorker(worker.address))
            manager.add_policy(retiring[-1])
        elif action < 0.55:
            cluster.add_worker(f"tcp://new{step}:1")
        elif action < 0.6 and mine:
            key = chance.choice(mine)
            mine.remove(key)
            cluster.release(client, [key])
        elif action < 0.75 and cluster.requests:
            cluster.answer(chance)
        else:
            cluster.run_one(chance.choice(sorted(cluster.inbox)), choose=chance)
        cluster.drain()
        for policy in retiring:
            if policy.done() and policy.address in state.workers:
                assert not set(data) & {t.key for t in state.workers[policy.address].has_what if len(t.who_has) < 2}
                cluster.remove_worker(policy.address, expected=True)
        retiring = [policy for policy in retiring if policy.address in state.workers]
    for worker in list(state.workers.values()):
        state.set_worker_status(worker, "running", cluster.now)
    cluster.drain()
    while cluster.requests or any(cluster.to_run(address) for address in cluster.inbox):
        cluster.answer_all(chance)
        for address in list(cluster.inbox):
            cluster.run_one(address)
    assert not state.steals.in_flight
    assert {key for key in data if state.tasks[key].state == "memory"} == set(data)
    assert all(state.tasks[key].state == "memory" for key in mine)
    for key in data:
        holders = {worker.address for worker in state.tasks[key].who_has}
        assert holders <= {address for address, held in cluster.held.items() if key in held}
    cluster.release(client, [*mine, *data])
    assert state.total_occupancy == pytest.approx(0)
    assert not state.tasks


def test_a_late_answer_for_a_task_without_an_open_request_is_taken() -> None:
    cluster = crowded(3, workers=2)
    task = cluster.state.tasks["f-2"]
    steal_requests.request(cluster.state, task, cluster.worker(1))
    cluster.drain()
    cluster.state.steals.forget_worker(cluster.worker(0))
    cluster.answer_all()
    assert task.processing_on is not None
    assert any(isinstance(m, ComputeTask) and m.key == "f-2" for box in cluster.inbox.values() for m in box)


def test_add_keys_of_unknown_results_are_refused() -> None:
    cluster = crowded(3, workers=2)
    cluster.state.handle_batch(cluster.worker(1), [AddKeys(["nobody's"])], 0.0)
    assert not cluster.worker(1).has_what


@pytest.mark.parametrize("ending", ["given back", "rescheduled", "worker gone"])
def test_what_a_task_needs_is_kept_while_the_task_is_placed_anew(ending: str) -> None:
    cluster = BalancedCluster(3)
    state, client = cluster.state, cluster.add_client()
    state.add_data(client, {"x": ["tcp://w0:1", "tcp://w1:1"]}, {"x": 10}, {}, 0.0)
    cluster.submit(client, {"f-1": ["x"]}, options=TaskOptions(workers=["tcp://w0:1"], allow_other_workers=True))
    cluster.release(client, ["x"])  # now only the task keeps it
    task = state.tasks["f-1"]
    assert task.processing_on is cluster.worker(0)
    match ending:
        case "given back":
            steal_requests.request(state, task, None)
            cluster.drain()
            cluster.answer_all()
        case "rescheduled":
            state.handle_batch(cluster.worker(0), [RescheduleTask("f-1", task.attempt)], 0.0)
        case "worker gone":
            cluster.remove_worker("tcp://w0:1")
    assert state.tasks["x"].state == "memory"
    assert task.state == "processing"


def test_what_a_worker_says_of_a_copy_does_not_end_a_task_that_it_is_to_run() -> None:
    cluster = BalancedCluster(1)
    state, client = cluster.state, cluster.add_client()
    cluster.submit(client, {"f-1": []})
    task, worker = state.tasks["f-1"], cluster.worker(0)
    # Sent before it was told to free the copy and to compute the result anew.
    state.handle_batch(worker, [AddKeys(["f-1"]), ReleasedData("f-1")], 0.0)
    assert task.state == "processing"
    cluster.run_all()
    assert worker in task.who_has
    cluster.release(client, ["f-1"])
    cluster.to_run("tcp://w0:1")
    assert not cluster.held["tcp://w0:1"]
