"""What the simulation found when clients release, cancel, submit again or leave; each as small as it can be told."""

from __future__ import annotations

from headrace.client.state import ClientCore
from headrace.messages.client import CancelKeys, CancelledKeys, DesireKeys, LostData, ReleaseKeys, TaskErred
from headrace.messages.worker import FreeKeys, ReleasedData
from headrace.worker.state import WorkerCore as Worker
from headrace.worker.state.events import DataStored
from tests.scheduler.state.drive import Cluster

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
    client = ClientCore()
    client.want("key")
    client.handle(CancelledKeys(["key"], "cancelled by another client"))
    assert client.take_dropped() == ["key"]
    assert client.take_dropped() == []


def test_own_cancellation_is_not_released_on_top() -> None:
    client = ClientCore()
    client.want("key")
    client.cancel(["key"])
    client.handle(CancelledKeys(["key"]))
    assert client.take_dropped() == []


def test_cancellations_under_way_when_the_connection_is_new_are_expected() -> None:
    client = ClientCore()
    client.want("key")
    client.cancel(["key"])
    client.cancellations_sent([CancelKeys(["key"])])
    state, _ = client.want("key")
    client.handle(CancelledKeys(["key"]))
    assert state.status == "pending"


def test_data_of_a_client_that_has_left_goes() -> None:
    cluster = Cluster(workers=1)
    cluster.state.add_data_of("gone", {"data": [W0]}, {"data": 8}, {}, 0.0)
    cluster.drain()
    assert not cluster.state.tasks
    assert list(cluster.inbox[W0]) == [FreeKeys(["data"], 0)]


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


def test_data_that_is_put_there_again_survives_the_order_to_free_the_old() -> None:
    """That goes from the scheduler to the worker, and the new data from the client, and may be faster."""
    cluster = Cluster(workers=0)
    scheduler, holder, alice = cluster.state, cluster.add_worker(W0), cluster.add_client()
    worker = Worker(address=W0, validate=True)
    first = scheduler.begin_scatter(["data"], "alice", 0.0)
    worker.handle(DataStored({"data": 8}, first))
    scheduler.add_data(alice, {"data": [W0]}, {"data": 8}, {}, 0.0, scattering=first)
    cluster.release(alice, ["data"])
    second = scheduler.begin_scatter(["data"], "alice", 0.0)
    worker.handle(DataStored({"data": 8}, second))
    for message in cluster.inbox[W0]:
        worker.handle(message)
    assert not worker.drain().free
    scheduler.add_data(alice, {"data": [W0]}, {"data": 8}, {}, 0.0, scattering=second)
    assert scheduler.tasks["data"].who_has == {holder}
    cluster.inbox[W0].clear()
    cluster.release(alice, ["data"])
    for message in cluster.inbox[W0]:
        worker.handle(message)
    assert worker.drain().free == ["data"]
    assert not worker.scattered


def test_news_that_old_data_went_is_not_about_what_was_put_there_since() -> None:
    cluster = Cluster(workers=0)
    scheduler, holder, alice = cluster.state, cluster.add_worker(W0), cluster.add_client()
    first = scheduler.begin_scatter(["data"], "alice", 0.0)
    scheduler.add_data(alice, {"data": [W0]}, {"data": 8}, {}, 0.0, scattering=first)
    cluster.release(alice, ["data"])
    (order,) = cluster.inbox[W0]
    second = scheduler.begin_scatter(["data"], "alice", 0.0)
    scheduler.add_data(alice, {"data": [W0]}, {"data": 8}, {}, 0.0, scattering=second)
    scheduler.handle_batch(holder, [ReleasedData("data", order.scattering)], 0.0)
    assert scheduler.tasks["data"].who_has == {holder}
    scheduler.handle_batch(holder, [ReleasedData("data")], 0.0)
    assert "data" not in scheduler.tasks


def test_a_release_by_another_client_is_older_than_a_scattering_under_way() -> None:
    """Whoever scatters is not on record as wanting the key before it says that the data is there."""
    cluster = Cluster(workers=0)
    scheduler, bob = cluster.state, cluster.add_client("bob")
    cluster.add_worker(W0)
    first = scheduler.begin_scatter(["data"], "bob", 0.0)
    scheduler.add_data(bob, {"data": [W0]}, {"data": 8}, {}, 0.0, scattering=first)
    second = scheduler.begin_scatter(["data"], "alice", 0.0)
    cluster.release(bob, ["data"])
    assert list(cluster.inbox[W0]) == [FreeKeys(["data"], second - 1)]


def test_a_scattering_of_which_nothing_is_heard_ends_some_time() -> None:
    cluster = Cluster(workers=0)
    scheduler, alice = cluster.state, cluster.add_client()
    cluster.add_worker(W0)
    scheduler.begin_scatter(["data", "other"], "alice", 0.0)  # the answer is lost with the connection
    number = scheduler.begin_scatter(["data"], "alice", 1.0)
    scheduler.add_data(alice, {"data": [W0], "other": [W0]}, {"data": 8, "other": 8}, {}, 1.0, scattering=number)
    assert set(scheduler.scatters.under_way) == {"other"}
    scheduler.handle(alice, ReleaseKeys(["data", "other"]), 1000.0)
    cluster.drain()
    assert list(cluster.inbox[W0]) == [FreeKeys(["data", "other"], number)]
    assert not scheduler.scatters.under_way


def test_news_that_old_data_was_lost_does_not_cancel_what_is_put_there_since() -> None:
    """The client would take what it has put there for cancelled, and never release it."""
    client = ClientCore()
    scattered, _ = client.want("data")
    client.handle(LostData("data"))
    client.handle(CancelledKeys(["data"], "no task computes it again"))
    assert client.take_dropped() == ["data"]
    state, again = client.renew(scattered)
    assert again
    assert state.status == "pending"
    assert client.release([state]) == ["data"]


def test_released_intermediate_that_is_to_be_done_is_computed() -> None:
    """`fire_and_forget`; it would be wanted and released for ever."""
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"low": [], "top": ["low"]}, ["top"])
    cluster.run_all()
    cluster.state.handle(alice, DesireKeys(["low"], until_done=True), cluster.now)
    cluster.drain()
    assert cluster.run_all() == ["low"]
    assert cluster.state.tasks["low"].state == "released"


def test_data_that_no_worker_has_any_more_is_lost_also_when_results_made_of_it_are_there() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.state.add_data(alice, {"data": [W0]}, {"data": 8}, {}, 0.0)
    cluster.submit(alice, {"top": ["data"]})
    cluster.run_all()
    cluster.release(alice, ["data"])
    cluster.state.add_data(alice, {"data": ["tcp://gone:1"]}, {"data": 8}, {}, cluster.now)
    cluster.drain()
    assert cluster.heard["alice"]["data"] == "cancelled"
    assert not cluster.state.tasks["data"].who_wants


def test_failure_that_is_being_tried_again_is_nobody_s_cause() -> None:
    """Whichever of the two that share a failure starts over first, it does not take the other's word for it."""
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    last = {f"d{number}": ["a", "c"] for number in range(30)}  # some of them start over before `c`
    cluster.submit(alice, {"a": [], "b": ["a"], "c": ["b"], **last})
    cluster.run_one(W0, fail=True)
    assert set(cluster.heard["alice"].values()) == {"error"}
    cluster.messages["alice"].clear()
    cluster.state.retry(["b"], cluster.now)
    cluster.drain()
    causes = [message for message in cluster.messages["alice"] if type(message) is TaskErred]
    assert all(message.exception_text for message in causes)
    cluster.run_all()
    assert set(cluster.heard["alice"].values()) == {"finished"}
