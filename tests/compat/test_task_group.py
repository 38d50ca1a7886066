"""Every documented attribute of the scheduler's `TaskGroup`, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.messages.worker import TaskFailed, TaskFinished
from headrace.scheduler import TaskGroup
from headrace.scheduler.state.flow.graph_intake import MOST_GROUPS
from headrace.scheduler.state.records.tasks import STATES
from tests.scheduler.state.drive import Cluster


def group_of(cluster: Cluster, key: Any) -> TaskGroup:
    return cluster.state.tasks[key].group


def finish(cluster: Cluster, key: Any, **fields: Any) -> None:
    """A task's worker reports it as finished."""
    task = cluster.state.tasks[key]
    values = {"nbytes": 8, "type": "int", "start": 0.0, "stop": 0.0, **fields}
    assert task.processing_on is not None
    cluster.state.handle_batch(task.processing_on, [TaskFinished(key, task.attempt, **values)], cluster.now)
    cluster.drain()


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (("x-123", 0), "x-123"),
        (("x-123", 0, 1), "x-123"),
        ("inc-0123456789abcdef0123456789abcdef", "inc"),
        ("read-parquet-0123456789abcdef0123456789abcdef", "read-parquet"),
        ("plain", "plain"),
    ],
)
def test_name_is_the_first_part_of_a_tuple_or_the_text_before_the_token(key: Any, name: str) -> None:
    cluster = Cluster()
    cluster.submit(cluster.add_client(), {key: []})
    assert group_of(cluster, key).name == name
    assert cluster.state.tasks.groups == {name: group_of(cluster, key)}


def test_prefix() -> None:
    cluster = Cluster()
    cluster.submit(cluster.add_client(), {("sum-0123abcd", 0): [], ("sum-4567cdef", 0): []})
    first, second = (group_of(cluster, (name, 0)) for name in ("sum-0123abcd", "sum-4567cdef"))
    assert first is not second
    assert first.prefix is second.prefix
    assert first.prefix.name == "sum"
    assert first.prefix.groups == {first, second}


def test_states_counts_tasks_by_state() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {("x-1", i): [] for i in range(3)})
    group = group_of(cluster, ("x-1", 0))
    assert set(group.states) == set(STATES)
    assert sum(group.states.values()) == len(group) == 3
    cluster.run_one("tcp://w0:1")
    cluster.run_one("tcp://w0:1", fail=True)
    counts = {state: count for state, count in group.states.items() if count}
    assert counts == {"memory": 1, "erred": 1, "processing": 1}
    assert repr(group) == "<TaskGroup x-1: processing: 1, memory: 1, erred: 1>"
    cluster.release(alice, [("x-1", i) for i in range(3)])
    assert {state: count for state, count in group.states.items() if count} == {"forgotten": 3}


def test_dependencies_are_other_groups() -> None:
    cluster = Cluster()
    keys = {("a-1", 0): [], ("b-1", 0): [("a-1", 0)], ("b-1", 1): [("b-1", 0)], ("c-1", 0): [("b-1", 1), ("a-1", 0)]}
    cluster.submit(cluster.add_client(), keys)
    a, b, c = (group_of(cluster, (name, 0)) for name in ("a-1", "b-1", "c-1"))
    assert (a.dependencies, b.dependencies, c.dependencies) == (set(), {a}, {a, b}), "never itself"


def test_nbytes_total_is_what_its_tasks_have_produced() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    cluster.submit(alice, {("x-1", 0): [], ("x-1", 1): []})
    group = group_of(cluster, ("x-1", 0))
    assert group.nbytes_total == 0
    finish(cluster, ("x-1", 0), nbytes=100)
    finish(cluster, ("x-1", 1), nbytes=11)
    assert group.nbytes_total == 111
    cluster.release(alice, [("x-1", 0)])
    assert group.nbytes_total == 111, "also what is gone"


def test_duration_start_stop_and_all_durations() -> None:
    cluster = Cluster()
    cluster.submit(cluster.add_client(), {("x-1", 0): [], ("x-1", 1): []})
    group = group_of(cluster, ("x-1", 0))
    assert (group.start, group.stop, group.duration, group.all_durations) == (0.0, 0.0, 0.0, {})
    finish(cluster, ("x-1", 1), start=20.0, stop=23.0, startstops=[("transfer", 19.0, 20.0)])
    finish(cluster, ("x-1", 0), start=10.0, stop=12.0)
    assert (group.start, group.stop) == (10.0, 23.0)
    assert group.all_durations == {"compute": 5.0, "transfer": 1.0}
    assert group.duration == 6.0


def test_a_failed_run_counts_as_time_spent() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {("x-1", 0): []})
    task = cluster.state.tasks[("x-1", 0)]
    assert task.processing_on is not None
    failed = TaskFailed(task.key, task.attempt, b"", b"", "boom", "", 5.0, 7.0)
    cluster.state.handle_batch(task.processing_on, [failed], 7.0)
    assert task.group.all_durations == {"compute": 2.0}


def test_clocks_that_go_back_give_no_negative_time() -> None:
    cluster = Cluster()
    cluster.submit(cluster.add_client(), {("x-1", 0): []})
    finish(cluster, ("x-1", 0), start=10.0, stop=9.0)
    group = group_of(cluster, ("x-1", 0))
    assert group.duration == 0.0
    assert group.prefix.duration_average == 0.0


def test_types_are_the_names_of_its_results_types() -> None:
    cluster = Cluster()
    cluster.submit(cluster.add_client(), {("x-1", i): [] for i in range(3)})
    for number, name in enumerate(("int", "str", "int")):
        finish(cluster, ("x-1", number), type=name)
    assert group_of(cluster, ("x-1", 0)).types == {"int", "str"}


def test_last_worker_and_tasks_left_give_neighbours_to_one_worker() -> None:
    cluster = Cluster(workers=2, nthreads=4, saturation=2.0)
    keys = [("x-1", number) for number in range(64)]
    cluster.submit(cluster.add_client(), {key: [] for key in keys})
    group = group_of(cluster, keys[0])
    assert group.last_worker in cluster.state.workers.values()
    assert 0 <= group.last_worker_tasks_left < 8
    placed = [cluster.state.tasks[key].processing_on for key in keys]
    runs = [worker for worker, before in zip(placed, [None, *placed], strict=False) if worker and worker is not before]
    assert len(runs) == 2, "one run of neighbours a worker, at first"


def test_last_worker_of_a_small_group_is_nobody() -> None:
    cluster = Cluster(workers=2)
    cluster.submit(cluster.add_client(), {("x-1", 0): []})
    group = group_of(cluster, ("x-1", 0))
    assert group.last_worker is None
    assert group.last_worker_tasks_left == 0


def test_done_means_that_nothing_is_to_be_computed() -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {("x-1", 0): [], ("x-1", 1): []})
    group = group_of(cluster, ("x-1", 0))
    assert not group.done
    cluster.run_one("tcp://w0:1")
    cluster.run_one("tcp://w0:1", fail=True)
    assert group.done


def test_a_group_goes_with_its_last_task() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    cluster.submit(alice, {("x-1", 0): []})
    cluster.run_all()
    assert set(cluster.state.tasks.groups) == {"x-1"}
    cluster.release(alice, [("x-1", 0)])
    assert not cluster.state.tasks.groups


def test_a_result_that_is_computed_again_counts_once() -> None:
    cluster = Cluster(workers=2)
    cluster.submit(cluster.add_client(), {("x-1", 0): []})
    group = group_of(cluster, ("x-1", 0))
    finish(cluster, ("x-1", 0), nbytes=100)
    for nbytes in (100, 60):
        [holder] = cluster.state.tasks[("x-1", 0)].who_has
        cluster.remove_worker(holder.address)
        cluster.add_worker(holder.address)
        finish(cluster, ("x-1", 0), nbytes=nbytes)
        assert group.nbytes_total == nbytes


def test_a_late_result_that_is_used_counts_as_any_other() -> None:
    """A worker is back with the result of a run that was given up for lost: what is recorded of it is the same."""
    records = []
    for late in (False, True):
        cluster = Cluster(workers=1)
        cluster.submit(cluster.add_client(), {("x-1", 0): []})
        task = cluster.state.tasks[("x-1", 0)]
        message = TaskFinished(
            task.key, task.attempt, 7, "str", 1.0, 3.0, startstops=[("transfer", 0.0, 1.0)], metadata={"a": 1}
        )
        worker = cluster.state.workers["tcp://w0:1"]
        if late:
            cluster.remove_worker(worker.address)
            cluster.add_worker("tcp://w1:1")  # where it runs again
            worker = cluster.add_worker(worker.address)
        cluster.state.handle_batch(worker, [message], cluster.now)
        group = task.group
        records.append(
            (group.nbytes_total, group.types, group.all_durations, group.start, group.stop, task.metadata, task.type)
        )
        assert group.prefix.duration_average == 2.0
    assert records[0] == records[1]


def test_a_computation_keeps_no_worker_by_its_groups() -> None:
    cluster = Cluster(workers=2, nthreads=2)
    alice = cluster.add_client()
    cluster.submit(alice, {("x-1", number): [] for number in range(20)})
    group = group_of(cluster, ("x-1", 0))
    assert group.last_worker is not None
    cluster.run_all()
    cluster.release(alice, [("x-1", number) for number in range(20)])
    [computation] = cluster.state.computations
    assert computation.groups == {group}
    assert group.last_worker is None


def test_a_cluster_that_is_never_idle_keeps_no_end_of_groups() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"busy": []})
    for number in range(MOST_GROUPS + 5):
        cluster.submit(alice, {(f"x-{number}", 0): []})
        cluster.release(alice, [(f"x-{number}", 0)])
    assert [len(computation.groups) for computation in cluster.state.computations] == [MOST_GROUPS, 6]
