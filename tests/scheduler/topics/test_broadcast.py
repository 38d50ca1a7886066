"""Requests to several workers, of which some cannot be asked."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from typing import Any

import pytest

from headrace import Client, Nanny, Scheduler, Worker
from headrace.exceptions import UnknownWorkerError
from headrace.testing.clusters import gen_cluster

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")


def inc(x: int) -> int:
    return x + 1


async def tell(dask_worker: Any) -> None:
    dask_worker.log_event("news", "told")


def lock_on_the_first(dask_worker: Any) -> Any:
    return threading.Lock() if dask_worker.name == 0 else 1


@gen_cluster(client=True)
async def test_run_where_a_worker_cannot_be_reached(client: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    assert await client.run(inc, 1, workers=[b.address]) == {b.address: 2}  # its connection stays open
    a.stop()
    # nothing listens there any more: no time is spent on waiting for it
    with pytest.raises(ConnectionRefusedError, match=a.address):
        await client.run(inc, 1)
    returned = await client.run(inc, 1, on_error="return")
    assert returned[b.address] == 2
    assert isinstance(returned[a.address], ConnectionRefusedError)
    assert await client.run(inc, 1, on_error="ignore") == {b.address: 2}
    answers = await client.scheduler.broadcast(msg={"op": "ping"}, on_error="return")
    assert isinstance(answers[a.address], ConnectionRefusedError)
    pickled = await s.broadcast({"op": "ping"}, on_error="return_pickle")
    assert isinstance(pickle.loads(pickled[a.address]), ConnectionRefusedError)
    assert pickled[b.address] == b"pong"


@gen_cluster(client=True)
async def test_a_name_that_nobody_has(client: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    with pytest.raises(UnknownWorkerError, match="nobody"):
        await client.run(inc, 1, workers=[a.address, "nobody"])
    returned = await client.run(inc, 1, workers=[a.address, "nobody"], on_error="return")
    assert returned.pop(a.address) == 2
    assert isinstance(returned["nobody"], UnknownWorkerError)
    assert await client.run(inc, 1, workers=["nobody"], on_error="ignore") == {}
    with pytest.raises(ValueError, match="return_pickle"):
        await s.broadcast({"op": "ping"}, on_error="forget")


@gen_cluster(client=True)
async def test_a_result_that_cannot_be_sent(client: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    with pytest.raises(TypeError, match="lock"):
        await client.run(lock_on_the_first)
    returned = await client.run(lock_on_the_first, on_error="return")
    assert returned[b.address] == 1
    assert isinstance(returned[a.address], TypeError)
    assert await client.run(lock_on_the_first, on_error="ignore") == {b.address: 1}


@gen_cluster(client=True)
async def test_run_without_waiting(client: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    assert await client.run(inc, 1, wait=False) is None
    told = asyncio.Event()
    await client.subscribe_topic("news", lambda event: told.set())
    assert await client.run(tell, wait=False, workers=[a.address]) is None
    await told.wait()


@pytest.mark.slow
@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], Worker=Nanny)
async def test_run_what_ends_a_worker(client: Client, s: Scheduler, a: Nanny) -> None:
    with pytest.raises(OSError, match="closed"):
        await client.run(os._exit, 0)
