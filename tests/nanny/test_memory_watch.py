"""A nanny ends a worker that takes too much memory, and starts another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headrace import Nanny, Scheduler
from headrace.client import Client
from headrace.nanny.memory_watch import NannyMemoryManager
from headrace.testing.helpers.polling import async_poll_for

MB = 1_000_000


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with Scheduler(host="127.0.0.1") as started:
        yield started


def hold(nbytes: int) -> int:
    """Take memory once, and wait until the process is killed for it."""
    import time

    from headrace.worker import get_worker

    worker: Any = get_worker()
    worker.hoard = bytearray(b"x") * nbytes
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.01)
    return nbytes


async def test_a_worker_over_its_limit_is_killed_and_replaced(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    options: Any = {"memory_pause_fraction": False, "memory_spill_fraction": False}
    nanny = Nanny(scheduler.address, nthreads=1, host="127.0.0.1", memory_limit=300 * MB, name="a", **options)
    with caplog.at_level(logging.WARNING, "distributed.nanny"):
        async with nanny, Client(scheduler.address, asynchronous=True) as client:
            assert nanny.memory_limit == 300 * MB
            assert nanny.memory_terminate_fraction == 0.95
            first = nanny.process
            assert first is not None
            assert first.exit_cause is None
            future = client.submit(hold, 400 * MB, retries=0)
            await asyncio.wait_for(first.finished(), 30)
            await future.cancel()
            assert first.exit_cause is not None
            assert first.exit_cause.startswith("over 95 % of its memory limit: the process took ")
            await async_poll_for(lambda: nanny.process is not first and len(scheduler.workers) == 1, timeout=30)
            assert nanny.process is not None
            await async_poll_for(lambda: nanny.process.address in scheduler.workers, timeout=30)  # type: ignore[union-attr]
            assert await client.submit(sum, [1, 2]) == 3
    assert "over 95 % of its memory limit" in caplog.text
    assert "starting another" in caplog.text


async def test_looking_without_a_limit_or_a_worker(scheduler: Scheduler) -> None:
    unlimited = Nanny(scheduler.address, nthreads=1, host="127.0.0.1", memory_limit=0)
    assert unlimited.memory_limit is None
    unlimited.memory_monitor()
    never = Nanny(scheduler.address, memory_limit="1 GB", memory_terminate_fraction=False)
    assert never.memory_terminate_fraction is False
    never.memory_manager.start()
    assert "memory_monitor" not in never.periodic_callbacks
    never.memory_manager.memory_monitor(never)
    with pytest.raises(ValueError, match=r"memory.terminate is 95; it must be a share"):
        NannyMemoryManager(never, memory_terminate_fraction=95)
