"""`worker.status = Status.paused`, as users assign it: the worker pauses and the scheduler knows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace import Client, Scheduler, Worker, WorkerPlugin, get_worker
from headrace.common.status import Status
from headrace.testing.helpers.polling import async_poll_for

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")


class Pauses(WorkerPlugin):
    def setup(self, worker: Any) -> None:
        worker.status = Status.paused


def assign(status: Any, dask_worker: Any) -> None:
    dask_worker.status = status


def assign_in_task(status: Any) -> None:
    get_worker().status = status


async def is_paused_and_goes_on(
    scheduler: Scheduler, worker: Worker, client: Client, status: Status = Status.paused
) -> None:
    record = scheduler.workers[worker.address]
    await async_poll_for(lambda: record.status is status and worker.status is status)
    assert not worker.state.running
    waits = client.submit(sum, [1, 2], pure=False)
    await async_poll_for(lambda: waits.key in scheduler.tasks)
    assert scheduler.tasks[waits.key].state in ("queued", "no-worker")
    await client.run(assign, Status.running)
    assert await waits == 3
    assert record.status is worker.status is Status.running


@pytest.mark.parametrize("way", ["run", "task", "plugin", "plugin before"])
async def test_is_assigned(way: str) -> None:
    plugins = [Pauses()] if way == "plugin before" else []
    async with (
        asyncio.timeout(20),
        Scheduler(host="127.0.0.1", port=0, validate=True) as scheduler,
        Worker(scheduler.address, nthreads=1, validate=True, plugins=plugins) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        if way == "run":
            await client.run(assign, Status.paused)
        elif way == "task":
            await client.submit(assign_in_task, Status.paused)
        elif way == "plugin":
            await client.register_plugin(Pauses())
        await is_paused_and_goes_on(scheduler, worker, client)


async def test_one_that_is_about_to_leave_gets_no_tasks_either() -> None:
    async with (
        asyncio.timeout(20),
        Scheduler(host="127.0.0.1", port=0, validate=True) as scheduler,
        Worker(scheduler.address, nthreads=1, validate=True) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        worker.status = Status.closing_gracefully
        await is_paused_and_goes_on(scheduler, worker, client, Status.closing_gracefully)
        await worker.close_gracefully()
        assert worker.status is Status.closed


@pytest.mark.parametrize("status", ["paused", None, 1])
async def test_anything_else_is_refused(status: Any) -> None:
    async with (
        asyncio.timeout(20),
        Scheduler(host="127.0.0.1", port=0, validate=True) as scheduler,
        Worker(scheduler.address, nthreads=1, validate=True) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        with pytest.raises(TypeError, match=r"such as Status\.paused"):
            await client.run(assign, status)
        assert worker.status is Status.running
