"""What a scheduler counts for as long as it lives: nothing of it falls when workers, clients and tasks go."""

from __future__ import annotations

import pytest

from tests.scheduler.state.drive import Cluster


def test_workers_that_come_go_and_die() -> None:
    cluster = Cluster(workers=0)
    tallies = cluster.state.tallies
    cluster.add_worker("tcp://a:1", server_id="a")
    cluster.add_worker("tcp://b:1", server_id="b")
    cluster.add_worker("tcp://a:1", server_id="a")  # it is back before anybody has missed it
    assert (tallies.workers_added, tallies.workers_removed) == (2, 0)
    cluster.add_worker("tcp://b:1", server_id="other")  # another process at its address
    assert (tallies.workers_added, tallies.workers_removed, tallies.workers_lost) == (3, 1, 1)
    cluster.remove_worker("tcp://a:1", expected=True)
    cluster.remove_worker("tcp://b:1")
    assert (tallies.workers_added, tallies.workers_removed, tallies.workers_lost) == (3, 3, 2)


def test_clients_that_come_and_go() -> None:
    cluster = Cluster()
    tallies = cluster.state.tallies
    cluster.add_client("alice")
    cluster.add_client("bob")
    cluster.state.remove_client("alice", 1.0)
    cluster.state.remove_client("alice", 2.0)  # it has gone already
    assert (tallies.clients_added, tallies.clients_removed) == (2, 1)


def test_seconds_of_threads() -> None:
    cluster = Cluster(workers=0)
    state = cluster.state
    cluster.now = 10.0
    cluster.add_worker("tcp://a:1", nthreads=2)
    cluster.now = 15.0
    cluster.add_worker("tcp://b:1", nthreads=1)
    assert state.tallies.thread_seconds_until(state.total_nthreads, 16.0) == 2 * 5 + 3 * 1
    cluster.now = 20.0
    cluster.remove_worker("tcp://a:1", expected=True)
    cluster.now = 30.0
    cluster.remove_worker("tcp://b:1", expected=True)
    assert state.tallies.thread_seconds_until(state.total_nthreads, 99.0) == 2 * 10 + 1 * 15


@pytest.mark.parametrize("short_ways", [True, False])
def test_results_that_are_computed_again_count_also_once_they_are_forgotten(short_ways: bool) -> None:
    cluster = Cluster(workers=1, short_ways=short_ways)
    alice = cluster.add_client()
    cluster.submit(alice, {"x-1": []})
    cluster.run_all()
    prefix = cluster.state.tasks["x-1"].group.prefix
    assert prefix.recomputed == 0
    cluster.remove_worker("tcp://w0:1")
    cluster.add_worker("tcp://w1:1")
    assert cluster.run_all() == ["x-1"]
    spent = prefix.seconds_spent
    assert prefix.recomputed == 1
    assert spent["compute"] == pytest.approx(0.02)
    cluster.release(alice, ["x-1"])
    assert not prefix.groups
    assert (prefix.recomputed, prefix.seconds_spent) == (1, spent)
