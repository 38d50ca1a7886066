"""What the simulation found when clients release, cancel, submit again or leave; each as small as it can be told."""

from __future__ import annotations

from state.drive import Cluster

from headrace.client.state import ClientState
from headrace.messages.client import CancelKeys, CancelledKeys
from headrace.messages.worker import FreeKeys

W0 = "tcp://w0:1"


def test_released_intermediate_that_is_submitted_again_is_computed() -> None:
    cluster = Cluster(workers=1)
    alice, bob = cluster.add_client("alice"), cluster.add_client("bob")
    cluster.submit(alice, {"low": [], "top": ["low"]}, ["top"])
    cluster.run_all()
    assert cluster.state.tasks["low"].state == "released"
    cluster.submit(bob, {"low": []})
    assert cluster.run_all() == ["low"]
    assert cluster.heard["bob"] == {"low": "finished"}


def test_released_intermediate_in_the_first_part_of_a_graph_is_there_for_the_second() -> None:
    cluster = Cluster(workers=1)
    alice, bob = cluster.add_client("alice"), cluster.add_client("bob")
    cluster.submit(alice, {"low": [], "top": ["low"]}, ["top"])
    cluster.run_all()
    cluster.submit(bob, {"low": []}, [], number=7, more=True)
    cluster.release(alice, ["top"])
    cluster.submit(bob, {"other": ["low"]}, ["other"], number=7)
    cluster.run_all()
    assert cluster.heard["bob"] == {"other": "finished"}


def test_every_cancellation_is_confirmed() -> None:
    """A client that was not told would take later news of the key for the confirmation."""
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.cancel(alice, ["unknown"])
    assert cluster.messages["alice"] == [CancelledKeys(["unknown"], "cancelled by the client")]


def test_key_that_the_scheduler_cancels_is_released() -> None:
    """What the client sent before it heard of that may have asked for the key anew."""
    client = ClientState()
    client.want("key")
    client.handle([CancelledKeys(["key"], "cancelled by another client")])
    assert client.take_dropped() == ["key"]
    assert client.take_dropped() == []


def test_own_cancellation_is_not_released_on_top() -> None:
    client = ClientState()
    client.want("key")
    client.cancel(["key"])
    client.handle([CancelledKeys(["key"])])
    assert client.take_dropped() == []


def test_cancellations_under_way_when_the_connection_is_new_are_expected() -> None:
    client = ClientState()
    client.want("key")
    client.cancel(["key"])
    client.cancellations_sent([CancelKeys(["key"])])
    state, _ = client.want("key")
    client.handle([CancelledKeys(["key"])])
    assert state.status == "pending"


def test_data_of_a_client_that_has_left_goes() -> None:
    cluster = Cluster(workers=1)
    cluster.state.add_data_of("gone", {"data": [W0]}, {"data": 8}, {}, 0.0)
    cluster.drain()
    assert not cluster.state.tasks
    assert list(cluster.inbox[W0]) == [FreeKeys(["data"])]


def test_task_whose_data_was_lost_is_made_anew_when_all_is_submitted_again() -> None:
    cluster = Cluster(workers=2)
    alice = cluster.add_client()
    cluster.state.add_data(alice, {"data": [W0]}, {"data": 8}, {}, 0.0)
    cluster.drain()
    cluster.submit(alice, {"mid": ["data"], "top": ["mid"]}, ["top"])
    cluster.run_all()
    (holder,) = cluster.state.tasks["top"].who_has
    cluster.release(alice, ["data"])
    if holder.address == W0:
        cluster.add_worker("tcp://w2:1", {"top": 8})
    cluster.remove_worker(W0)
    assert cluster.heard["alice"] == {"top": "finished"}
    cluster.state.add_data(alice, {"data": ["tcp://w1:1"]}, {"data": 8}, {}, 1.0)
    cluster.submit(alice, {"mid": ["data"]})
    cluster.run_all()
    assert cluster.heard["alice"] == {"top": "finished", "data": "finished", "mid": "finished"}
