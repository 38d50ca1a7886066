"""Clients that do not read what they are sent: nothing is kept for them without end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from headrace import Scheduler
from headrace.comm import connect
from headrace.messages import ToClient
from headrace.messages.client import ClientEvent, DesireKeys, KeyInMemory, SubmitGraph
from headrace.messages.worker import ComputeTask, TaskFinished
from headrace.rpc import send_recv
from headrace.scheduler.connections import clients
from headrace.scheduler.connections import unsent as limits
from headrace.scheduler.connections.unsent import Unsent
from tests.scheduler.test_server import Peer, join_client, join_worker, running

EVENT = ClientEvent("topic", (0.0, "x" * 1_000_000))


def stop_reading(client: Peer) -> None:
    """As if its process was stopped: what is sent to it stays in the system's buffers, and then with the sender."""
    transport: Any = client.stream.comm._transport  # type: ignore[attr-defined]
    transport.pause_reading()


async def unsent(scheduler: Scheduler, nbytes: int) -> None:
    """Send until so much has not left, or the client has been dropped."""
    async with asyncio.timeout(20):
        while "alice" in scheduler.client_comms and scheduler.client_comms["alice"].comm.unsent < nbytes:
            scheduler.client_send("alice", EVENT)
            await asyncio.sleep(0.001)


async def test_results_are_not_pushed_to_one_that_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as scheduler:
        worker, client = await join_worker(scheduler), await join_client(scheduler)
        client.stream.send(SubmitGraph(1, [b"f"], ["x", "y"], [b"a", b"b"]))
        tasks = {(task := await worker.next(ComputeTask)).key: task for _ in range(2)}
        stop_reading(client)
        await unsent(scheduler, clients.FETCH_BYTES + 1_000_000)
        scheduler.client_send("alice", EVENT)
        async with asyncio.timeout(20):
            while not scheduler.clients["alice"].slow:
                await asyncio.sleep(0.001)
        worker.stream.send(TaskFinished("x", tasks["x"].attempt, 4, "int", 0.0, 1.0, b"result"))
        async with asyncio.timeout(20):
            while scheduler.tasks["x"].state != "memory":
                await asyncio.sleep(0.001)
        client.stream.comm._transport.resume_reading()  # type: ignore[attr-defined]
        answer = await client.next(KeyInMemory)
        assert (answer.key, answer.result) == ("x", None)
        async with asyncio.timeout(20):
            while scheduler.clients["alice"].slow:
                scheduler.client_send("alice", ClientEvent("topic", (0.0, "")))
                await asyncio.sleep(0.001)
        worker.stream.send(TaskFinished("y", tasks["y"].attempt, 4, "int", 0.0, 1.0, b"result"))
        assert (await client.next(KeyInMemory)).result == b"result"


@pytest.mark.parametrize("for_long", [True, False])
async def test_one_that_reads_nothing_is_dropped_and_may_come_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, for_long: bool
) -> None:
    """After a while with much unsent, or at once with very much."""
    caplog.set_level(logging.WARNING, "distributed")
    monkeypatch.setattr(limits, "UNSENT_BYTES", 20_000_000)
    monkeypatch.setattr(limits, "MOST_UNSENT", 10**12 if for_long else 40_000_000)
    monkeypatch.setattr(limits, "STALL_SECONDS", 0.0 if for_long else 1e9)
    async with running() as scheduler:
        worker, client = await join_worker(scheduler), await join_client(scheduler)
        client.stream.send(SubmitGraph(1, [b"f"], ["x"], [b"a"]))
        task = await worker.next(ComputeTask)
        stop_reading(client)
        await unsent(scheduler, 100_000_000)
        assert "alice" not in scheduler.client_comms
        (line,) = [record.getMessage() for record in caplog.records]
        assert "Client alice is dropped: it does not read" in line
        assert "alice" in scheduler.clients
        worker.stream.send(TaskFinished("x", task.attempt, 4, "int", 0.0, 1.0, b"result"))
        comm = await connect(scheduler.address)
        reply = await send_recv(comm, op="register-client", client="alice", returning=True)
        assert reply["received"] == 1
        again = Peer(comm, ToClient)
        again.stream.send(DesireKeys(["x"]))
        assert (await again.next(KeyInMemory)).key == "x"
        client.stream.abort()


def test_what_is_too_much() -> None:
    """Values in bytes and seconds; a client that reads what it is sent is never dropped for how long it takes."""
    some, most, stall = limits.UNSENT_BYTES + 1, limits.MOST_UNSENT, limits.STALL_SECONDS
    unsent = Unsent(0.0, returned=False)
    assert not unsent.is_too_much(most, 1.0)
    assert unsent.is_too_much(most + 1, 1.0)

    stopped = Unsent(0.0, returned=False)
    assert not stopped.is_too_much(some, 10.0)
    assert not stopped.is_too_much(some, 9.9 + stall)
    assert stopped.is_too_much(some, 10.0 + stall)

    reading = Unsent(0.0, returned=False)
    assert not any(reading.is_too_much(most - number, stall * number) for number in range(100))
    assert not reading.is_too_much(0, 100 * stall)
    assert not reading.is_too_much(some, 200 * stall)


def test_a_client_that_is_back_is_told_all_that_it_missed() -> None:
    most, stall = limits.MOST_UNSENT, limits.STALL_SECONDS
    back = Unsent(100.0, returned=True)
    assert not back.is_too_much(3 * most, 100.1)
    assert not back.is_too_much(5 * most, 100.2)
    assert not back.is_too_much(5 * most - 1, 100.0 + 2 * stall)  # it reads
    assert not back.is_too_much(5 * most, 100.1 + 2 * stall)
    assert back.is_too_much(6 * most + 1, 100.2 + 2 * stall)

    gone_again = Unsent(100.0, returned=True)
    assert not gone_again.is_too_much(3 * most, 100.1)
    assert gone_again.is_too_much(3 * most, 100.1 + stall)
