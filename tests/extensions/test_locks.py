"""Lock: between tasks, clients and threads, with waiting, timeouts and broken connections."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator

import pytest

from headrace import Client, LocalCluster, Lock, Scheduler
from headrace.comm import connect
from headrace.rpc import rpc, send_recv


@pytest.fixture
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_one_holder_at_a_time(client: Client) -> None:
    lock = Lock("x")
    assert not lock.locked()
    assert lock.acquire()
    assert lock.locked()
    assert not Lock("x").acquire(blocking=False)
    assert not Lock("x").acquire(timeout="10ms")
    lock.release()
    assert not lock.locked()


def test_tasks_exclude_each_other(client: Client) -> None:
    def guarded(number: int, lock: Lock) -> int:
        import headrace

        client = headrace.get_client()
        with lock:
            assert client.get_metadata("inside", None) in (None, 0)
            client.set_metadata("inside", 1)
            client.set_metadata("inside", 0)
        return number

    futures = client.map(guarded, range(10), lock=Lock("guard"))
    assert client.gather(futures) == list(range(10))


def test_is_made_and_pickled_without_a_client() -> None:
    lock = pickle.loads(pickle.dumps(Lock("name")))
    assert lock.name == "name"
    assert Lock().name != Lock().name


def test_bad_use_is_named(client: Client) -> None:
    with pytest.raises(ValueError, match="not held"):
        Lock("x").release()
    with pytest.raises(ValueError, match="timeout"):
        Lock("x").acquire(blocking=False, timeout=1)


async def test_waiting_ones_are_served_in_turn_and_the_gone_are_passed_over() -> None:
    async with Scheduler(host="127.0.0.1") as scheduler, rpc(scheduler.address) as remote:
        extension = scheduler.extensions["locks"]
        assert await remote.lock_acquire(name="x", identifier="a")
        gone = await connect(scheduler.address)
        waiting = [
            asyncio.create_task(send_recv(gone, op="lock_acquire", name="x", identifier="gone")),
            asyncio.create_task(remote.lock_acquire(name="x", identifier="b")),
        ]
        async with asyncio.timeout(10):
            while len(extension.waiting.get("x", ())) < 2:
                await asyncio.sleep(0)
        waiting[0].cancel()
        gone.abort()
        comm = extension.waiting["x"][0][1]
        async with asyncio.timeout(10):
            while not comm.closed():
                await asyncio.sleep(0)
        await remote.lock_release(name="x", identifier="a")
        assert await waiting[1]
        assert extension.holders == {"x": "b"}
        await remote.lock_release(name="x", identifier="b")
        assert not extension.holders
        await asyncio.gather(*waiting, return_exceptions=True)
