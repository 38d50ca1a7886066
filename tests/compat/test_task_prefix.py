"""Every documented attribute of the scheduler's `TaskPrefix`, row by row."""

from __future__ import annotations

import pytest

from headrace.messages.worker import TaskFinished, WorkerHeartbeat
from headrace.scheduler import TaskPrefix
from tests.scheduler.state.drive import Cluster


def finish(cluster: Cluster, key: object, start: float, stop: float, nbytes: int = 8, type: str = "int") -> None:
    task = cluster.state.tasks[key]  # type: ignore[index]
    assert task.processing_on is not None
    answer = TaskFinished(task.key, task.attempt, nbytes, type, start, stop)
    cluster.state.handle_batch(task.processing_on, [answer], cluster.now)
    cluster.drain()


def two_groups(cluster: Cluster) -> TaskPrefix:
    cluster.submit(cluster.add_client(), {("inc-0a1b", 0): [], ("inc-2c3d", 0): []})
    return cluster.state.tasks.prefixes["inc"]


def test_name_and_groups() -> None:
    cluster = Cluster()
    prefix = two_groups(cluster)
    assert prefix.name == "inc"
    assert {group.name for group in prefix.groups} == {"inc-0a1b", "inc-2c3d"}


def test_duration_average_leans_to_recent_runs() -> None:
    cluster = Cluster()
    prefix = two_groups(cluster)
    assert prefix.duration_average == -1, "unknown"
    finish(cluster, ("inc-0a1b", 0), 0.0, 4.0)
    assert prefix.duration_average == 4.0
    finish(cluster, ("inc-2c3d", 0), 10.0, 12.0)
    assert prefix.duration_average == 3.0


def test_duration_average_begins_with_the_configured_default() -> None:
    cluster = Cluster(default_durations={"inc": 7.0})
    assert two_groups(cluster).duration_average == 7.0


def test_a_result_that_was_there_already_teaches_nothing() -> None:
    cluster = Cluster()
    prefix = two_groups(cluster)
    finish(cluster, ("inc-0a1b", 0), 0.0, 0.0)
    assert prefix.duration_average == -1


def test_suspicious_counts_workers_that_died() -> None:
    cluster = Cluster(workers=2)
    prefix = two_groups(cluster)
    assert prefix.suspicious == 0
    cluster.remove_worker("tcp://w0:1")
    assert prefix.suspicious == 1
    cluster.remove_worker("tcp://w1:1", expected=True)
    assert prefix.suspicious == 1, "one that left on purpose is no suspicion"


def test_totals_are_over_its_groups() -> None:
    cluster = Cluster(workers=2)
    prefix = two_groups(cluster)
    finish(cluster, ("inc-0a1b", 0), 0.0, 4.0, 100, "int")
    finish(cluster, ("inc-2c3d", 0), 0.0, 2.0, 11, "str")
    assert prefix.nbytes_total == 111
    assert prefix.duration == 6.0
    assert prefix.all_durations == {"compute": 6.0}
    assert prefix.types == {"int", "str"}
    assert len(prefix) == 2


def test_states_and_active() -> None:
    cluster = Cluster(workers=2)
    prefix = two_groups(cluster)
    first, second = (cluster.state.tasks[(name, 0)].group for name in ("inc-0a1b", "inc-2c3d"))
    assert prefix.states["processing"] == 2
    assert set(prefix.active) == {first, second}
    finish(cluster, ("inc-0a1b", 0), 0.0, 1.0)
    assert prefix.active == [second]
    assert {state: n for state, n in prefix.states.items() if n} == {"processing": 1, "memory": 1}
    assert {state: n for state, n in prefix.active_states.items() if n} == {"processing": 1}
    assert repr(prefix) == "<TaskPrefix inc: processing: 1, memory: 1>"


def test_it_outlives_its_groups_and_remembers_the_duration() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    cluster.submit(alice, {"inc-0a1b": []})
    prefix = cluster.state.tasks.prefixes["inc"]
    finish(cluster, "inc-0a1b", 0.0, 4.0)
    cluster.release(alice, ["inc-0a1b"])
    assert prefix.groups == set()
    assert cluster.state.tasks.prefixes["inc"].duration_average == pytest.approx(4.0)


def test_max_exec_time_is_the_longest_run_seen_under_way() -> None:
    cluster = Cluster(workers=2)
    prefix = two_groups(cluster)
    assert prefix.max_exec_time == -1
    for seconds in (2.0, 5.0, 3.0):
        task = cluster.state.tasks[("inc-0a1b", 0)]
        assert task.processing_on is not None
        cluster.state.on_heartbeat(task.processing_on, WorkerHeartbeat(0.0, {}, {task.key: seconds}), 0.0)
    assert prefix.max_exec_time == 5.0


def test_state_counts_are_all_that_ever_came_into_a_state() -> None:
    cluster = Cluster()
    alice = cluster.add_client()
    cluster.submit(alice, {"inc-0a1b": []})
    prefix = cluster.state.tasks.prefixes["inc"]
    finish(cluster, "inc-0a1b", 0.0, 1.0)
    assert {state: n for state, n in prefix.state_counts.items() if n} == {
        "released": 1,
        "waiting": 1,
        "processing": 1,
        "memory": 1,
    }
    cluster.release(alice, ["inc-0a1b"])
    cluster.submit(alice, {"inc-2c3d": []})
    counts = prefix.state_counts
    assert (counts["processing"], counts["memory"], counts["forgotten"]) == (2, 1, 1), "also of a group that is gone"
