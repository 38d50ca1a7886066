"""Results that cannot be pickled are used where they are, whoever is idle."""

from __future__ import annotations

import asyncio
import socket

import pytest

from headrace import Client, Event, Scheduler, Worker, get_worker
from headrace.testing.helpers.polling import async_poll_for

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")


def bind() -> socket.socket:
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    return found


def use(bound: socket.socket, number: int) -> tuple[str, int]:
    """Where this ran, and the socket's port."""
    return get_worker().address, bound.getsockname()[1]


def wait_for(name: str) -> None:
    Event(name).wait()


def close(bound: socket.socket) -> None:
    bound.close()


async def test_a_socket_is_used_by_tasks_on_its_worker_only() -> None:
    async with (
        asyncio.timeout(20),
        Scheduler(host="127.0.0.1", port=0, validate=True) as scheduler,
        Worker(scheduler.address, nthreads=1, validate=True) as home,
        Worker(scheduler.address, nthreads=2, validate=True),
        Client(scheduler.address, asynchronous=True) as client,
    ):
        bound = client.submit(bind, workers=[home.address], key="bound")
        await client.submit(id, bound, workers=[home.address])
        open_it = Event("open", client=client)
        busy = client.submit(wait_for, "open", workers=[home.address])  # from here on the other worker is idle
        used = client.map(use, [bound] * 6, range(6))
        await async_poll_for(lambda: len(scheduler.state.staying) == 1, period=0.01)
        await open_it.set()
        found = await client.gather(used)
        assert {address for address, _ in found} == {home.address}
        assert len({port for _, port in found}) == 1
        await client.gather([busy, client.submit(close, bound)])
