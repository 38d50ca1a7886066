"""A scheduler, a worker and a client over tcp, which must still serve others after whatever a test did to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import dask
import pytest

from headrace import Client, Scheduler, Worker

#: Seconds that anything in these tests may take before it counts as hanging.
PATIENCE = 20


class Served(NamedTuple):
    """What a test works with."""

    scheduler: Scheduler
    worker: Worker
    client: Client


def inc(x: int) -> int:
    return x + 1


async def serves_others(served: Served) -> None:
    """Fail unless the same scheduler and worker do the same client's and another's work."""
    async with asyncio.timeout(PATIENCE):
        assert await served.client.submit(inc, 1, pure=False) == 2
        async with Client(served.scheduler.address, asynchronous=True, set_as_default=False) as other:
            assert await other.gather(other.map(inc, range(10), pure=False)) == list(range(1, 11))
    assert set(served.scheduler.workers) == {served.worker.address}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """The cluster; in the end it must serve others."""
    with dask.config.set({"distributed.scheduler.client-reconnect-timeout": "200ms"}):
        scheduler = Scheduler(host="127.0.0.1", port=0, validate=True)
    async with (
        scheduler,
        Worker(scheduler.address, nthreads=2, validate=True) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        cluster = Served(scheduler, worker, client)
        async with asyncio.timeout(PATIENCE):
            yield cluster
        await serves_others(cluster)


@pytest.fixture
def client(served: Served) -> Client:
    return served.client
