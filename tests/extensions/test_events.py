"""Event: set, unset, and waited for by clients and tasks."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from headrace import Client, Event, Lock, Queue, Scheduler, Variable
from headrace.comm import connect
from headrace.exceptions import CommClosedError
from headrace.rpc import send_recv
from headrace.testing.clusters import gen_cluster


def test_a_flag(client: Client) -> None:
    event = Event("flag")
    assert not event.is_set()
    assert not event.wait(timeout="10ms")
    assert not event.wait(timeout=0)
    event.set()
    assert event.is_set()
    assert event.wait()
    event.clear()
    assert not pickle.loads(pickle.dumps(event)).is_set()
    assert not client.cluster.scheduler.extensions["events"].set_names


def test_tasks_wait_for_a_client(client: Client) -> None:
    def wait(event: Event) -> bool:
        return bool(event.wait(timeout=30))

    event = Event()
    futures = client.map(wait, [event] * 4, pure=False)
    event.set()
    assert client.gather(futures) == [True] * 4


def test_a_client_waits_for_a_task(client: Client) -> None:
    event = Event()
    future = client.submit(event.set)
    assert event.wait(timeout=30)
    assert future.result() is None


def test_without_a_client_it_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"Event: lonely.*Make a Client"):
        Event("lonely").set()


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_asynchronously(c: Any, s: Any, a: Any) -> None:
    extension = s.extensions["events"]
    event = await Event("x")
    waiting = [asyncio.create_task(Event("x").wait()) for _ in range(3)]
    while len(extension.waiting) < 3:
        await asyncio.sleep(0)
    await event.set()
    assert await asyncio.gather(*waiting) == [True] * 3
    await event.clear()
    assert not await event.wait(0.01)

    async def set_it(event: Event) -> None:
        await event.set()

    await c.submit(set_it, event)
    assert await event.is_set()
    assert not extension._lines


@gen_cluster(client=True, nthreads=[])
async def test_those_who_have_gone_are_forgotten(c: Any, s: Any) -> None:
    extension = s.extensions["events"]
    comm = await connect(s.address)
    async with Client(s.address, asynchronous=True, set_as_default=False) as other:
        waiting = [
            asyncio.create_task(send_recv(comm, op="event_wait", name="never")),
            asyncio.create_task(Event("never", client=other).wait()),
        ]
        while len(extension.waiting) < 2:
            await asyncio.sleep(0)
        comm.abort()
        while len(extension.waiting) == 2:
            await asyncio.sleep(0)
    while extension.waiting or extension._lines:
        await asyncio.sleep(0)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [CommClosedError] * 2


@pytest.mark.parametrize("protocol", ["tcp", "inproc"])
async def test_a_scheduler_that_closes_leaves_nobody_waiting(protocol: str) -> None:
    host = None if protocol == "inproc" else "127.0.0.1"
    async with (
        Scheduler(host=host, protocol=protocol) as scheduler,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        assert await Lock("held").acquire()
        requests = [Event("e").wait(), Lock("held").acquire(), Queue("q").get(), Variable("v").get()]
        waiting = [asyncio.ensure_future(request) for request in requests]
        extensions = [scheduler.extensions[name] for name in ("events", "semaphores", "queues", "variables")]
        while not all(extension.waiting for extension in extensions):
            await asyncio.sleep(0)
        await scheduler.close()
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [CommClosedError] * 4
        assert client.status == "closed"
    while [task for task in asyncio.all_tasks() if "connection from" in task.get_name()]:
        await asyncio.sleep(0)
