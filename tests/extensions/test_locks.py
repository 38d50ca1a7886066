"""Lock: between tasks, clients and threads, with waiting, timeouts and broken connections."""

from __future__ import annotations

import asyncio
import pickle
from datetime import timedelta
from typing import Any

import pytest

from headrace import Client, Event, LocalCluster, Lock, Scheduler, Semaphore, get_client
from headrace.comm import connect
from headrace.rpc import rpc, send_recv
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import poll_for


def test_one_holder_at_a_time(client: Client) -> None:
    lock = Lock("one")
    assert not lock.locked()
    assert lock.acquire()
    assert lock.locked()
    assert not Lock("one").acquire(blocking=False)
    assert not Lock("one").acquire(timeout="10ms")
    assert not Lock("one").acquire(timeout=timedelta(milliseconds=10))
    assert lock.release()
    assert not lock.locked()


def test_many_tasks_exclude_each_other(client: Client) -> None:
    def increment(number: int, lock: Lock) -> int:
        import headrace

        client = headrace.get_client()
        with lock:
            value = client.get_metadata("count", 0)
            client.set_metadata("count", value + 1)
        return number

    futures = client.map(increment, range(200), lock=Lock("count"))
    assert client.gather(futures) == list(range(200))
    assert client.get_metadata("count") == 200


def test_is_made_and_pickled_without_a_client() -> None:
    lock = pickle.loads(pickle.dumps(Lock("name")))
    assert lock.name == "name"
    assert Lock().name != Lock().name
    assert isinstance(lock, Semaphore)
    with pytest.raises(RuntimeError, match="Make a Client"):
        lock.acquire()


def test_bad_use_is_named(client: Client) -> None:
    with pytest.raises(RuntimeError, match="Released too often"):
        Lock("bad").release()
    with Lock("bad"), pytest.raises(RuntimeError, match="Released too often"):
        Lock("bad").release()
    with pytest.raises(ValueError, match="timeout"):
        Lock("bad").acquire(blocking=False, timeout=1)


def test_is_released_when_the_block_raises(client: Client) -> None:
    lock = Lock("raises")
    with pytest.raises(ZeroDivisionError), lock:
        1 / 0  # noqa: B018
    assert not lock.locked()


def test_outlives_the_client_that_it_was_used_with(client: Client) -> None:
    lock = Lock("outlives")
    with Client(client.cluster):
        assert lock.acquire()
        assert lock.release()
    assert lock.acquire()
    assert lock.release()


async def test_waiting_ones_are_served_in_turn_and_the_gone_are_passed_over() -> None:
    async with Scheduler(host="127.0.0.1") as scheduler, rpc(scheduler.address) as remote:
        extension = scheduler.extensions["semaphores"]
        one: dict[str, Any] = {"name": "x", "max_leases": 1, "fleeting": True}
        assert await remote.semaphore_acquire(lease_id="a", **one)
        gone = await connect(scheduler.address)
        waiting = [
            asyncio.create_task(send_recv(gone, op="semaphore_acquire", lease_id="gone", **one)),
            asyncio.create_task(remote.semaphore_acquire(lease_id="b", **one)),
        ]
        line = extension.core.by_name["x"].line
        async with asyncio.timeout(10):
            while len(line) < 2:
                await asyncio.sleep(0)
        assert list(line) == ["gone", "b"]
        server_side = extension.waiting._requests["gone"][0]
        waiting[0].cancel()
        gone.abort()
        async with asyncio.timeout(10):
            while not server_side.closed():
                await asyncio.sleep(0)
        assert await remote.semaphore_release(name="x", lease_id="a")
        assert await waiting[1]
        assert list(extension.core.by_name["x"].leases) == ["b"]
        assert await remote.semaphore_release(name="x", lease_id="b")
        assert not extension.core.by_name
        assert not extension.leases.core.leases
        await asyncio.gather(*waiting, return_exceptions=True)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_asynchronously(c: Any, s: Any, a: Any) -> None:
    lock = Lock("x")
    async with lock:
        assert await lock.locked()
        assert not await Lock("x").acquire(timeout=0.01)
        waiting = asyncio.create_task(Lock("x").acquire())
        extension = s.extensions["semaphores"]
        while not extension.core.by_name["x"].line:
            await asyncio.sleep(0)
        waiting.cancel()  # gives up: the turn is not swallowed
        while extension.core.by_name["x"].line:
            await asyncio.sleep(0)
        assert await lock.get_value() == 1
    assert not await lock.locked()
    while extension.leases.core.leases:
        await asyncio.sleep(0)

    async def in_a_coroutine(lock: Lock) -> bool:
        async with lock:
            return bool(await lock.locked())

    assert await c.submit(in_a_coroutine, lock)


@gen_cluster(client=True, nthreads=[])
async def test_a_grant_that_crosses_a_cancellation_is_given_back(c: Any, s: Any) -> None:
    lock = Lock("x")
    original = c._call

    async def late(op: str, **kwargs: Any) -> Any:
        answer = await original(op, **kwargs)
        if op == "semaphore_acquire":
            granted.set()
            await asyncio.sleep(0)
        return answer

    granted = asyncio.Event()
    c._call = late
    task = asyncio.create_task(lock.acquire())
    await granted.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    c._call = original
    while await lock.locked():
        await asyncio.sleep(0)


def test_a_holder_that_waits_for_a_task_comes_back_though_its_place_waits_for_it() -> None:
    def inner() -> None:
        Event("go").wait(timeout=30)

    def outer(number: int, elsewhere: str) -> int:
        with Lock("shared"):
            get_client().submit(inner, workers=[elsewhere], pure=False).result()
        return number

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        here, elsewhere = client.scheduler_info()["workers"]
        futures = client.map(outer, range(3), elsewhere=elsewhere, workers=[here])
        semaphores = cluster.scheduler.extensions["semaphores"].core.by_name
        poll_for(lambda: "shared" in semaphores and len(semaphores["shared"].line) == 1)
        Event("go").set()
        assert client.gather(futures) == [0, 1, 2]
