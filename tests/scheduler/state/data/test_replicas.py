"""Copies, the memory manager's policies, evening out memory, and which workers may go: on the pure state."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pytest

from headrace.messages.base import TaskOptions
from headrace.messages.worker import AcquireReplicas, AddKeys, LongRunning, ReleasedData, RemoveReplicas
from headrace.scheduler.state.balance.scaling import plan_closing, target_workers
from headrace.scheduler.state.data import replica_plans, replicas
from headrace.scheduler.state.data.memory_manager import (
    ActiveMemoryManagerPolicy,
    MemoryManager,
    ReduceReplicas,
    RetireWorker,
    Suggestion,
)
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState
from tests.scheduler.state.balance.balanced import BalancedCluster


def scattered(workers: int, data: dict[str, list[int]], nbytes: int = 10, **options: Any) -> BalancedCluster:
    """A cluster in which data are on the workers of these numbers, and wanted."""
    cluster = BalancedCluster(workers, **options)
    client = cluster.add_client()
    who_has = {key: [f"tcp://w{number}:1" for number in numbers] for key, numbers in data.items()}
    cluster.state.add_data(client, who_has, dict.fromkeys(data, nbytes), {}, 0.0)
    for key, addresses in who_has.items():
        for address in addresses:
            cluster.held[address].add(key)
    for worker in cluster.state.workers.values():
        worker.metrics["memory"] = 10**6  # what it says of its process; results are part of it
    cluster.drain()
    return cluster


def holders(cluster: BalancedCluster, key: str) -> set[str]:
    return {worker.address[len("tcp://") : -len(":1")] for worker in cluster.state.tasks[key].who_has}


def run(cluster: BalancedCluster, *policies: ActiveMemoryManagerPolicy, measure: str = "managed") -> MemoryManager:
    manager = MemoryManager(cluster.state, policies, measure)
    manager.run_policies()
    cluster.drain()
    return manager


class Suggests(ActiveMemoryManagerPolicy):
    """Suggests what it is told to, and remembers the answers."""

    def __init__(self, *suggestions: Any) -> None:
        self.suggestions = suggestions
        self.chosen: list[WorkerState | None] = []

    def run(self) -> Any:
        for suggestion in self.suggestions:
            answer = yield suggestion
            self.chosen.append(answer)


class TestManager:
    def test_a_copy_goes_to_the_worker_with_the_least_memory_in_use(self) -> None:
        cluster = scattered(3, {"x": [0], "big": [1]}, nbytes=100)
        policy = Suggests(Suggestion("replicate", cluster.state.tasks["x"]))
        run(cluster, policy)
        assert policy.chosen == [cluster.worker(2)]
        assert [type(message) for _, message in cluster.requests] == [AcquireReplicas]
        cluster.answer_all()
        assert holders(cluster, "x") == {"w0", "w2"}

    def test_candidates_are_kept_to(self) -> None:
        cluster = scattered(4, {"x": [0]})
        task = cluster.state.tasks["x"]
        policy = Suggests(
            ("replicate", task, {cluster.worker(0)}),
            ("replicate", task, {cluster.worker(3)}),
            ("replicate", task, {cluster.worker(3)}),
            ("replicate", task),
        )
        run(cluster, policy)
        assert policy.chosen[:3] == [None, cluster.worker(3), None]
        assert policy.chosen[3] in (cluster.worker(1), cluster.worker(2))

    def test_the_last_copy_stays(self) -> None:
        cluster = scattered(3, {"x": [0, 1, 2]})
        task = cluster.state.tasks["x"]
        policy = Suggests(*[("drop", task, None)] * 3)
        run(cluster, policy)
        assert [worker is None for worker in policy.chosen] == [False, False, True]
        assert len(task.who_has) == 1
        policy = Suggests(("drop", task, None))
        run(cluster, policy)
        assert policy.chosen == [None]

    def test_what_is_being_fetched_keeps_its_copies(self) -> None:
        cluster = scattered(3, {"x": [0, 1]})
        client = cluster.state.clients["alice"]
        cluster.submit(client, {"f-1": ["x"]}, options=TaskOptions(workers=["tcp://w2:1"]))
        run(cluster, ReduceReplicas())
        assert len(holders(cluster, "x")) == 2

    def test_a_silent_worker_s_copy_does_not_count(self) -> None:
        cluster = scattered(2, {"x": [0, 1]})
        cluster.worker(0).heard_at = 10.0
        policy = Suggests(("drop", cluster.state.tasks["x"], {cluster.worker(0)}))
        run(cluster, policy)
        assert policy.chosen == [None]
        cluster.worker(1).heard_at = 10.0
        run(cluster, ReduceReplicas())
        assert len(holders(cluster, "x")) == 1

    def test_a_silent_worker_s_copy_is_dropped_first(self) -> None:
        cluster = scattered(3, {"x": [0, 1, 2], "big": [0], "bigger": [1]}, nbytes=100)
        cluster.worker(0).heard_at = cluster.worker(1).heard_at = 10.0
        policy = Suggests(("drop", cluster.state.tasks["x"]))
        run(cluster, policy)
        assert policy.chosen == [cluster.worker(2)]

    def test_a_copy_on_its_way_is_none_yet(self) -> None:
        cluster = scattered(2, {"x": [0]})
        task = cluster.state.tasks["x"]
        policy = Suggests(("replicate", task, None), ("drop", task, None))
        run(cluster, policy)
        assert policy.chosen == [cluster.worker(1), None]

    def test_what_a_task_there_needs_stays(self) -> None:
        cluster = scattered(2, {"x": [0, 1]})
        client = cluster.state.clients["alice"]
        cluster.submit(client, {"f-1": ["x"]}, options=TaskOptions(workers=["tcp://w1:1"]))
        policy = Suggests(("drop", cluster.state.tasks["x"], {cluster.worker(1)}))
        run(cluster, policy)
        assert policy.chosen == [None]

    def test_paused_workers_receive_nothing(self) -> None:
        cluster = scattered(2, {"x": [0]})
        cluster.state.set_worker_status(cluster.worker(1), "paused", 0.0)
        policy = Suggests(("replicate", cluster.state.tasks["x"], None))
        run(cluster, policy)
        assert policy.chosen == [None]

    def test_a_policy_that_fails_does_not_stop_others(self, caplog: pytest.LogCaptureFixture) -> None:
        cluster = scattered(2, {"x": [0, 1]})
        with caplog.at_level(logging.ERROR):
            run(cluster, Suggests(("spoil", cluster.state.tasks["x"])), ReduceReplicas())
        assert "'spoil'" in caplog.text
        assert len(holders(cluster, "x")) == 1

    def test_only_policies_are_taken(self) -> None:
        with pytest.raises(TypeError, match="ActiveMemoryManagerPolicy"):
            MemoryManager(BalancedCluster().state, [object()])  # type: ignore[list-item]

    def test_dropped_copies_are_off_the_record_at_once_and_back_if_needed_there(self) -> None:
        cluster = scattered(2, {"x": [0, 1]})
        run(cluster, ReduceReplicas())
        assert len(holders(cluster, "x")) == 1
        ((address, message),) = cluster.requests
        assert isinstance(message, RemoveReplicas)
        worker = cluster.state.workers[address]
        assert worker not in cluster.state.tasks["x"].who_has
        cluster.state.handle_batch(worker, [AddKeys(["x"])], 0.0)  # sent before the request came
        assert len(holders(cluster, "x")) == 1
        cluster.state.handle_batch(worker, [ReleasedData("x"), AddKeys(["x"])], 0.0)  # its answer: kept
        assert len(holders(cluster, "x")) == 2


class TestReduceReplicas:
    def test_one_copy_is_left(self) -> None:
        cluster = scattered(4, {"x": [0, 1, 2, 3], "y": [2]})
        assert replicas.replicated(cluster.state) == {cluster.state.tasks["x"]}
        run(cluster, ReduceReplicas())
        cluster.answer_all()
        assert len(holders(cluster, "x")) == 1
        assert replicas.replicated(cluster.state) == set()
        assert sum("x" in held for held in cluster.held.values()) == 1

    def test_one_for_each_task_that_will_use_it(self) -> None:
        cluster = scattered(4, {"x": [0, 1, 2, 3]})
        client = cluster.state.clients["alice"]
        cluster.submit(client, {"f-1": ["x"], "f-2": ["x"]})
        run(cluster, ReduceReplicas())
        assert len(holders(cluster, "x")) == 2
        cluster.run_all()
        run(cluster, ReduceReplicas())
        assert len(holders(cluster, "x")) == 1

    def test_one_for_each_worker_that_has_been_sent_such_tasks(self) -> None:
        cluster = scattered(4, {"x": [0, 1, 2, 3]})
        client = cluster.state.clients["alice"]
        here = TaskOptions(workers=[cluster.worker(1).address])
        cluster.submit(client, {"f-1": ["x"], "f-2": ["x"], "f-3": ["x"]}, options=here)
        assert len(cluster.worker(1).processing) == 3
        run(cluster, ReduceReplicas())
        assert holders(cluster, "x") == {"w1"}

    def test_a_worker_on_its_way_out_loses_its_copy_first(self) -> None:
        cluster = scattered(2, {"x": [0, 1], "much": [1], "more": [1]})
        cluster.state.set_worker_status(cluster.worker(0), "closing_gracefully", 0.0)
        run(cluster, ReduceReplicas())
        assert holders(cluster, "x") == {"w1"}


class TestRetireWorker:
    def leave(self, cluster: BalancedCluster, *numbers: int) -> list[RetireWorker]:
        for number in numbers:
            cluster.state.set_worker_status(cluster.worker(number), "closing_gracefully", 0.0)
        return [RetireWorker(cluster.worker(number).address) for number in numbers]

    def test_only_copies_are_moved(self) -> None:
        cluster = scattered(3, {"x": [0], "y": [0, 1], "z": [2]})
        (policy,) = self.leave(cluster, 0)
        manager = run(cluster, policy)
        ((_, message),) = cluster.requests
        assert message.keys == ["x"]
        assert not policy.done()
        cluster.answer_all()
        assert policy.done()
        assert policy in manager.policies

    def test_two_that_leave_do_not_count_on_each_other(self) -> None:
        cluster = scattered(3, {"x": [0, 1]})
        policies = self.leave(cluster, 0, 1)
        run(cluster, *policies)
        ((address, _),) = cluster.requests  # asked for once
        assert address == "tcp://w2:1"
        cluster.answer_all()
        assert [policy.done() for policy in policies] == [True, True]

    def test_those_that_leave_next_receive_only_what_nobody_else_can(self) -> None:
        cluster = scattered(3, {"x": [0], "big": [1]}, nbytes=100)
        self.leave(cluster, 0)
        for staying in (1, 2):
            avoided = {cluster.worker(number) for number in (1, 2) if number != staying}
            run(cluster, RetireWorker("tcp://w0:1", avoid=lambda: avoided))  # noqa: B023
            assert cluster.requests.pop()[0] == f"tcp://w{staying}:1"
        run(cluster, RetireWorker("tcp://w0:1", avoid=lambda: {cluster.worker(1), cluster.worker(2)}))
        assert cluster.requests.pop()[0] == "tcp://w2:1"

    def test_without_anybody_to_take_it(self) -> None:
        cluster = scattered(2, {"x": [0]})
        first, second = self.leave(cluster, 0, 1)
        manager = run(cluster, first, second)
        assert first.no_recipients
        assert not first.done()
        assert second.done()
        assert manager.policies == {second}

    def test_actors_cannot_be_moved(self) -> None:
        cluster = BalancedCluster(2)
        client = cluster.add_client()
        cluster.submit(client, {"f-1": []}, options=TaskOptions(actor=True, workers=["tcp://w0:1"]))
        cluster.run_all()
        (policy,) = self.leave(cluster, 0)
        run(cluster, policy)
        assert policy.no_recipients

    def test_a_worker_that_has_gone_is_done(self) -> None:
        cluster = scattered(2, {"x": [0, 1]})
        (policy,) = self.leave(cluster, 0)
        manager = MemoryManager(cluster.state, [policy])
        cluster.remove_worker("tcp://w0:1")
        assert policy.done()
        manager.run_policies()
        assert not manager.policies


class TestPlans:
    def keys(self, plan: dict[WorkerState, list[TaskState]]) -> dict[str, list[Any]]:
        return {worker.address: [task.key for task in tasks] for worker, tasks in plan.items()}

    @pytest.mark.parametrize(("branching", "rounds"), [(1, [1, 2, 4]), (2, [2, 5]), (7, [7])])
    def test_copies_spread_as_a_tree(self, branching: int, rounds: list[int]) -> None:
        cluster = scattered(8, {"x": [0]})
        state = cluster.state
        task = state.tasks["x"]
        sizes = []
        while plan := replica_plans.plan_replicas([task], list(state.workers.values()), 8, branching):
            sizes.append(len(plan))
            for worker in plan:
                replicas.note_replicas(state, worker, ["x"])
        assert sizes == rounds

    def test_surplus_never_takes_the_last_copy(self) -> None:
        cluster = scattered(3, {"x": [0, 1, 2]})
        task = cluster.state.tasks["x"]
        assert len(replica_plans.plan_surplus([task], list(cluster.state.workers.values()), 0)) == 2
        assert self.keys(replica_plans.plan_surplus([task], [cluster.worker(0)], 1)) == {}

    def limited(self, data: dict[str, list[int]], workers: int = 2, nbytes: int = 10) -> BalancedCluster:
        cluster = scattered(workers, data, nbytes=nbytes)
        for worker in cluster.state.workers.values():
            worker.memory_limit = 1000
        return cluster

    def moves(self, cluster: BalancedCluster, keys: Iterable[str] | None = None, **options: Any) -> list[Any]:
        tasks = None if keys is None else [cluster.state.tasks[key] for key in keys]
        chosen = replica_plans.RebalanceOptions(measure="managed", **options)
        plan = replica_plans.plan_rebalance(cluster.state, tasks, cluster.state.workers.values(), chosen)
        return [(source.address, target.address, task.key) for source, target, task in plan]

    def test_memory_is_evened_out_oldest_first(self) -> None:
        cluster = self.limited({f"x{number}": [0] for number in range(80)})
        found = self.moves(cluster)
        assert [key for _, _, key in found] == [f"x{number}" for number in range(len(found))]
        assert 35 <= len(found) <= 40
        assert all(move[:2] == ("tcp://w0:1", "tcp://w1:1") for move in found)

    def test_little_data_stay(self) -> None:
        cluster = self.limited({f"x{number}": [0] for number in range(25)})
        assert self.moves(cluster) == []
        assert len(self.moves(cluster, sender_min=0.1)) >= 7

    def test_full_workers_receive_nothing(self) -> None:
        data = {f"x{number}": [0] for number in range(95)} | {f"y{number}": [1] for number in range(65)}
        assert self.moves(self.limited(data)) == []

    def test_copies_do_not_become_fewer(self) -> None:
        assert self.moves(self.limited({f"x{number}": [0, 1] for number in range(80)}, workers=2)) == []

    def test_only_the_given_results_move(self) -> None:
        cluster = self.limited({f"x{number}": [0] for number in range(80)})
        assert {key for _, _, key in self.moves(cluster, ["x70", "x71"])} == {"x70", "x71"}

    def test_one_large_result_is_not_tossed_about(self) -> None:
        assert self.moves(self.limited({"x": [0]}, nbytes=900)) == []

    def test_several_recipients(self) -> None:
        cluster = self.limited({f"x{number}": [0] for number in range(90)}, workers=3)
        found = [target for _, target, _ in self.moves(cluster)]
        assert abs(found.count("tcp://w1:1") - found.count("tcp://w2:1")) <= 1
        assert len(found) >= 50

    def test_without_limits_the_mean_counts(self) -> None:
        cluster = scattered(2, {f"x{number}": [0] for number in range(80)})
        assert 38 <= len(self.moves(cluster)) <= 40


class TestScaling:
    def test_idle_workers_without_data_may_all_go(self) -> None:
        cluster = BalancedCluster(3)
        for worker in cluster.state.workers.values():
            worker.memory_limit = 100
        assert len(plan_closing(cluster.state)) == 3
        assert len(plan_closing(cluster.state, minimum=2)) == 1
        assert len(plan_closing(cluster.state, n=2)) == 2
        assert len(plan_closing(cluster.state, target=1)) == 2
        assert len(plan_closing(cluster.state, target=1, minimum=2)) == 1
        assert plan_closing(cluster.state, n=0) == []

    def test_twice_the_memory_of_the_data_stays(self) -> None:
        cluster = scattered(4, {f"x{number}": [0] for number in range(9)})
        for worker in cluster.state.workers.values():
            worker.memory_limit = 100
        assert len(plan_closing(cluster.state)) == 2  # 90 bytes want 180
        assert len(plan_closing(cluster.state, memory_ratio=1)) == 3
        assert cluster.worker(0) not in plan_closing(cluster.state, memory_ratio=1)

    def test_workers_without_limits(self) -> None:
        cluster = scattered(3, {"x": [0]})
        assert len(plan_closing(cluster.state)) == 2
        assert len(plan_closing(BalancedCluster(3).state)) == 3

    def test_those_that_work_stay_unless_a_number_is_given(self) -> None:
        cluster = BalancedCluster(2)
        cluster.submit(cluster.add_client(), {"f-1": []}, options=TaskOptions(workers=["tcp://w0:1"]))
        assert plan_closing(cluster.state) == [cluster.worker(1)]
        assert plan_closing(cluster.state, n=2) == [cluster.worker(1), cluster.worker(0)]

    def test_those_with_a_task_that_has_seceded_stay(self) -> None:
        cluster = BalancedCluster(3)
        cluster.submit(cluster.add_client(), {"long": []}, options=TaskOptions(workers=["tcp://w0:1"]))
        attempt = cluster.state.tasks["long"].attempt
        cluster.state.handle_batch(cluster.worker(0), [LongRunning("long", attempt, 0.1)], 1.0)
        assert plan_closing(cluster.state, n=3) == [cluster.worker(1), cluster.worker(2)]
        assert plan_closing(cluster.state, target=0) == [cluster.worker(1), cluster.worker(2)]
        pairs = {cluster.worker(0): 0, cluster.worker(1): 0, cluster.worker(2): 1}
        assert plan_closing(cluster.state, n=3, key=pairs.get) == [cluster.worker(2)]

    def test_groups_go_together(self) -> None:
        cluster = BalancedCluster(4)
        hosts = {cluster.worker(number): number // 2 for number in range(4)}
        found = plan_closing(cluster.state, n=3, key=lambda worker: hosts[worker])
        assert [hosts[worker] for worker in found] == [0, 0]

    def test_nothing_to_do_wants_no_workers(self) -> None:
        assert target_workers(BalancedCluster(3).state, 5.0) == 0
        assert target_workers(BalancedCluster(0).state, 5.0) == 0

    def test_work_without_workers_wants_one(self) -> None:
        cluster = BalancedCluster(0)
        cluster.submit(cluster.add_client(), {"f-1": []})
        assert target_workers(cluster.state, 5.0) == 1

    def test_queued_work_counts_and_there_are_never_more_than_tasks(self) -> None:
        cluster = BalancedCluster(2, default_durations={"f": 1.0})
        cluster.submit(cluster.add_client(), {f"f-{number}": [] for number in range(100)})
        assert target_workers(cluster.state, 5.0) == 20
        assert target_workers(cluster.state, 0.1) == 100

    def test_threads_count(self) -> None:
        cluster = BalancedCluster(2, 4, default_durations={"f": 1.0})
        cluster.submit(cluster.add_client(), {f"f-{number}": [] for number in range(100)})
        assert target_workers(cluster.state, 5.0) == 5

    def test_a_crowded_memory_wants_twice_the_workers(self) -> None:
        cluster = scattered(2, {f"x{number}": [number % 2] for number in range(14)})
        for worker in cluster.state.workers.values():
            worker.memory_limit = 100
        assert target_workers(cluster.state, 5.0) == 4


class TestQueueing:
    @pytest.mark.parametrize(("saturation", "held"), [(1.0, 4), (1.1, 5), (2.0, 8), (float("inf"), 100)])
    def test_saturation_bounds_what_a_worker_holds(self, saturation: float, held: int) -> None:
        cluster = BalancedCluster(1, 4, saturation=saturation)
        cluster.submit(cluster.add_client(), {f"f-{number}": [] for number in range(100)})
        assert len(cluster.worker(0).processing) == held
        assert len(cluster.state.queued) == 100 - held
        assert len(cluster.run_all()) == 100
