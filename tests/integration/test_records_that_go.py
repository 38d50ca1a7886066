"""What is kept for others goes with them."""

from __future__ import annotations

import asyncio

import pytest

from headrace import Client, Scheduler, Worker
from headrace.actor import _channels
from headrace.testing.helpers.polling import async_poll_for

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")


class Counter:
    n = 0

    def add(self) -> int:
        self.n += 1
        return self.n


async def test_the_channel_to_a_worker_s_actors_goes_with_the_worker() -> None:
    async with (
        asyncio.timeout(20),
        Scheduler(host="127.0.0.1", port=0, validate=True) as scheduler,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        for _ in range(3):
            async with Worker(scheduler.address, nthreads=1, validate=True):
                counter = await client.submit(Counter, actor=True, pure=False)
                assert await counter.add() == 1
                assert await counter.add() == 2
                del counter
            await async_poll_for(lambda: not _channels.get(client.session.pool))
