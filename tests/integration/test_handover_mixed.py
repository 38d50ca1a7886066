"""What was handed over within a process, and must leave it after all, because a worker or a client is elsewhere."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from headrace import Client, Scheduler, Worker
from headrace.exceptions import DeserializationError, SerializationError
from headrace.protocol import Frames, Held, StreamCodec, decode, encode, hand_over, loads

#: Seconds after which something hangs.
PATIENCE = 30


def same(value: Any) -> Any:
    return value


def set_first(values: Any) -> float:
    values[0] = 5
    return float(values[0])


class Cluster(NamedTuple):
    """A scheduler that listens within the process and over tcp, with a worker and a client of either kind."""

    scheduler: Scheduler
    near: Worker
    far: Worker
    client: Client
    far_client: Client


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with asyncio.timeout(2 * PATIENCE), Scheduler(protocol="inproc", validate=True) as scheduler:
        await scheduler.server.listen("tcp://127.0.0.1:0")
        near_address, far_address = (listener.contact_address for listener in scheduler.server.listeners)
        async with (
            Worker(near_address, nthreads=1, name="near", validate=True) as near,
            Worker(far_address, nthreads=1, name="far", host="127.0.0.1", validate=True) as far,
            Client(near_address, asynchronous=True) as client,
            Client(far_address, asynchronous=True, set_as_default=False) as far_client,
        ):
            assert near.address.startswith("inproc://")
            assert far.address.startswith("tcp://")
            yield Cluster(scheduler, near, far, client, far_client)


async def test_only_the_task_fails_that_cannot_leave(cluster: Cluster) -> None:
    client, lock = cluster.client, threading.Lock()
    plain = client.map(same, range(20), workers=["far"])
    argument = client.submit(same, lock, workers=["far"])
    function = client.submit(lambda: lock.locked(), workers=["far"])
    with pytest.raises(DeserializationError, match=r"arguments of the task 'same-.*cannot pickle '_thread.lock'"):
        await argument
    with pytest.raises(DeserializationError, match=r"function of the task 'lambda-.*cannot pickle '_thread.lock'"):
        await function
    assert await client.gather(plain) == list(range(20))
    assert await client.submit(same, lock, workers=["near"]) is lock
    assert await client.gather(client.map(same, range(20), workers=["far"], pure=False)) == list(range(20))


async def test_arrays_leave_as_copies(cluster: Cluster) -> None:
    for size in (3, 100_000):
        array = np.zeros(size)
        assert await cluster.client.submit(set_first, array, workers=["far"], pure=False) == 5
        assert array[0] == 0
        assert await cluster.client.submit(set_first, array, workers=["near"], pure=False) == 5
        assert array[0] == 5


async def test_results_leave_for_a_client_elsewhere(cluster: Cluster) -> None:
    client = cluster.far_client
    assert await client.submit(same, [1, 2], workers=["near"]) == [1, 2]
    with pytest.raises((DeserializationError, SerializationError), match=r"_thread\.lock"):
        await client.submit(threading.Lock, workers=["near"])
    assert await client.submit(same, 3, workers=["near"]) == 3


def test_payloads() -> None:
    lock = threading.Lock()
    held = hand_over([lock])
    assert type(held) is Held
    assert loads(held) is held.value
    assert held.value == [lock]
    assert held == held != hand_over([lock])
    (sent,) = StreamCodec(Any).decode(StreamCodec().encode([held]))
    for payload in (sent, decode(encode({"x": held}))["x"], pickle.loads(pickle.dumps(held))):
        assert type(payload) is Frames
        with pytest.raises(SerializationError, match=r"cannot be sent to another. .*type list.*cannot pickle"):
            loads(payload)
    assert loads(decode(encode(Held(3)))) == 3
    assert type(hand_over([1, "x"])) is bytes


class Pipeline:
    """Leads to the client, and by it to all messages of this process."""

    def __init__(self, client: Client) -> None:
        self.client = client


async def test_what_leads_to_a_client_is_refused_at_once(cluster: Cluster) -> None:
    client = cluster.client
    for argument in (client, Pipeline(client), cluster.scheduler):
        with pytest.raises((DeserializationError, SerializationError), match="cannot be pickled: "):
            await client.submit(type, argument, workers=["far"])
    assert await client.submit(same, 3, workers=["far"]) == 3


def test_a_payload_that_leads_to_itself_ends() -> None:
    value: list[Any] = [threading.Lock()]
    value.append(Held(value))
    with pytest.raises(SerializationError, match="cannot be sent to another"):
        loads(decode(encode(value[1])))
