"""Every documented attribute of `Computation` (`code` is in test_user_frames), and of `ClientState`."""

from __future__ import annotations

from headrace import Client, Scheduler, Worker
from headrace.common.source_code import SourceCode
from headrace.testing.clusters import gen_cluster
from tests.scheduler.state.drive import Cluster


def test_start_and_stop_are_the_first_start_and_the_last_stop() -> None:
    cluster = Cluster(workers=1)
    cluster.now = 100.0
    cluster.submit(cluster.add_client(), {"a-1": [], "b-1": ["a-1"]})
    (computation,) = cluster.state.computations
    assert computation.start == 100.0, "when it was submitted, as long as nothing has run"
    assert computation.stop == -1
    cluster.now = 200.0
    cluster.run_all()
    assert computation.start == 200.0
    assert computation.stop == cluster.now


def test_groups_and_states() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {("a-1", 0): [], ("a-1", 1): [], "b-1": [("a-1", 0)]}, ["b-1", ("a-1", 1)])
    (computation,) = cluster.state.computations
    assert {group.name for group in computation.groups} == {"a-1", "b"}
    assert set(computation) == computation.groups
    assert {state: n for state, n in computation.states.items() if n} == {"processing": 2, "waiting": 1}
    cluster.run_all()
    assert {state: n for state, n in computation.states.items() if n} == {"memory": 2, "released": 1}
    cluster.release(alice, ["b-1", ("a-1", 1)])
    assert {state: n for state, n in computation.states.items() if n} == {"forgotten": 3}


def test_work_that_comes_while_the_cluster_is_busy_belongs_to_the_same_computation() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a-1": []})
    cluster.submit(alice, {"b-1": []})
    assert len(cluster.state.computations) == 1
    cluster.run_all()
    cluster.submit(alice, {"c-1": []})
    first, second = cluster.state.computations
    assert {group.name for group in first.groups} == {"a", "b"}
    assert {group.name for group in second.groups} == {"c"}


def test_parts_of_a_submission_belong_together() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    for part, name in enumerate("abc"):
        cluster.submit(alice, {f"{name}-1": []}, number=7, more=part < 2)
        cluster.run_all()
    cluster.submit(alice, {"d-1": []}, number=8)
    first, second = cluster.state.computations
    assert {group.name for group in first.groups} == {"a", "b", "c"}
    assert {group.name for group in second.groups} == {"d"}


def test_ids_are_unique() -> None:
    cluster = Cluster(workers=1)
    for name in ("alice", "bob"):
        client = cluster.add_client(name)
        for number in range(2):
            cluster.submit(client, {f"{name}-{number}": []}, number=number)
            cluster.run_all()
    ids = [computation.id for computation in cluster.state.computations]
    assert len(set(ids)) == len(ids) == 4
    assert ids[0] in repr(cluster.state.computations[0])


def test_code_of_several_submissions() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    one, other = (SourceCode(f"def {name}(): ...", 1, 0, "f.py") for name in "ab")
    for number, frames in enumerate([(other,), (one,), (other,)]):
        cluster.submit(alice, {f"x-{number}": []}, code=[frames])
    (computation,) = cluster.state.computations
    assert computation.code == [(one,), (other,)]


def test_history_is_bounded() -> None:
    cluster = Cluster(workers=1, computations_kept=2)
    alice = cluster.add_client()
    for name in "abc":
        cluster.submit(alice, {f"{name}-1": []})
        cluster.run_all()
    assert [next(iter(computation.groups)).name for computation in cluster.state.computations] == ["b", "c"]


def test_client_key_and_wants_what() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client("alice")
    assert cluster.state.clients == {"alice": alice}
    assert alice.client_key == "alice"
    assert alice.wants_what == set()
    cluster.submit(alice, {"a": [], "b": ["a"]}, ["b"])
    assert alice.wants_what == {cluster.state.tasks["b"]}
    cluster.release(alice, ["b"])
    assert alice.wants_what == set()


@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True)
async def test_what_a_real_client_tells(c: Client, s: Scheduler, w: Worker) -> None:
    record = s.clients[c.id]
    before = record.last_seen
    assert before > 0
    await c.submit(abs, -1)
    assert record.last_seen > before
    assert record.versions["python"].startswith("3.")
    assert "dask" in record.versions
