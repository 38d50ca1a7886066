"""The tables of the core: transitions between states, and messages that it takes."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from headrace.exceptions import UnknownMessage
from headrace.messages import FromClient, FromWorker
from headrace.messages.client import ClientHeartbeat
from headrace.messages.worker import ReleasedData, WorkerEvent
from headrace.scheduler.state.core import CLIENT_MESSAGES, WORKER_MESSAGES
from headrace.scheduler.state.records.tasks import STATES
from headrace.scheduler.state.transitions.engine import UnknownTransition
from headrace.scheduler.state.transitions.table import TABLE
from tests.scheduler.state.drive import Cluster


def test_rows_are_about_states() -> None:
    assert set(itertools.chain.from_iterable(TABLE)) == set(STATES)


def test_every_state_can_be_left_and_all_but_forgotten_can_be_released() -> None:
    assert {start for start, finish in TABLE if finish == "released"} == set(STATES) - {"released"}


@pytest.mark.parametrize("finish", [state for state in STATES if ("waiting", state) not in TABLE])
def test_a_pair_that_is_absent_raises(finish: str) -> None:
    cluster = Cluster(workers=1)
    cluster.submit(cluster.add_client(), {"a": [], "b": ["a"]})
    task = cluster.state.tasks["b"]
    assert task.state == "waiting"
    if finish == "waiting":
        cluster.state.settle({task: finish})  # nothing to do
        return
    with pytest.raises(UnknownTransition, match="'b'"):
        cluster.state.settle({task: finish})


def test_documented_transitions_go_by_way_of_released() -> None:
    cluster = Cluster(workers=0)
    cluster.submit(cluster.add_client(), {"a": []})
    task = cluster.state.tasks["a"]
    assert task.state == "no-worker"
    assert ("no-worker", "waiting") not in TABLE
    assert cluster.state.transition(task, "waiting", "by hand", 1.0) == {task: "processing"}
    assert [(line[1], line[2]) for line in cluster.state.story("by hand")] == [
        ("no-worker", "released"),
        ("released", "waiting"),
    ]


def test_messages_that_the_core_takes_are_clients_and_workers() -> None:
    assert set(CLIENT_MESSAGES) < set(get_args(FromClient))
    assert set(WORKER_MESSAGES) < set(get_args(FromWorker))


def test_an_unknown_message_raises() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    with pytest.raises(UnknownMessage, match="ClientHeartbeat"):
        cluster.state.handle(alice, ClientHeartbeat(), 1.0)
    with pytest.raises(UnknownMessage, match="WorkerEvent"):
        cluster.state.handle(cluster.state.workers["tcp://w0:1"], WorkerEvent([], None), 1.0)


def test_what_comes_before_an_unknown_message_is_taken() -> None:
    cluster = Cluster(workers=1)
    alice = cluster.add_client()
    cluster.submit(alice, {"a": []})
    cluster.run_all()
    worker = cluster.state.workers["tcp://w0:1"]
    assert worker.has_what
    with pytest.raises(UnknownMessage, match="WorkerEvent"):
        cluster.state.handle_batch(worker, [ReleasedData("a"), WorkerEvent([], None)], 1.0)
    assert not worker.has_what
    assert cluster.state.tasks["a"].state == "processing"
