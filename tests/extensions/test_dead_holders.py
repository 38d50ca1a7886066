"""What is held, and stored, when processes die, connections break and schedulers restart."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import dask
import pytest

from headrace import Client, Event, LocalCluster, Lock, MultiLock, Queue, Semaphore, Variable
from headrace.comm import connect
from headrace.messages.client import ClientHeartbeat
from headrace.rpc import rpc, send_recv
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.sample_functions import inc

SOON = {
    "distributed.scheduler.locks.lease-timeout": "300ms",
    "distributed.scheduler.locks.lease-validation-interval": "50ms",
}


def hold() -> None:
    """Take one of each, and say so; the second time (after the first has died) only return."""
    if Event("killed").is_set():
        return
    assert Lock("lock").acquire()
    assert MultiLock(["multi", "lock"]).acquire()
    assert Semaphore(1, "semaphore").acquire()
    Queue("pids").put(os.getpid())
    Event("never").wait()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """One whose cluster has processes, and ends leases soon."""
    with (
        dask.config.set(SOON),
        LocalCluster(n_workers=2, threads_per_worker=2, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def count(number: int, lock: Lock) -> int:
    """Not atomic, but for the lock."""
    variable = Variable("count")
    with lock:
        variable.set(variable.get() + 1)
    return number


def test_many_tasks_of_several_processes_exclude_each_other(client: Client) -> None:
    Variable("count").set(0)
    assert client.gather(client.map(count, range(200), lock=Lock("count"))) == list(range(200))
    assert Variable("count").get() == 200


def test_a_worker_that_is_killed_gives_up_what_it_held(client: Client) -> None:
    future = client.submit(hold)
    pid = Queue("pids").get(timeout=60)
    lock, multi, semaphore = Lock("lock"), MultiLock(["multi", "lock"]), Semaphore(1, "semaphore")
    assert not lock.acquire(timeout="600ms")  # twice a lease, but its holder lives
    assert not multi.acquire(blocking=False)
    assert not semaphore.acquire(timeout=0)
    Event("killed").set()
    os.kill(pid, signal.SIGKILL)
    assert lock.acquire(timeout=60)
    assert multi.acquire(timeout=60)
    assert semaphore.acquire(timeout=60)
    assert future.result(timeout=60) is None
    lock.release()
    multi.release()
    semaphore.release()


@gen_cluster(client=True, nthreads=[], config=SOON)
async def test_a_client_that_does_not_return_gives_up_what_it_held(c: Any, s: Any) -> None:
    leases = s.extensions["leases"].core.leases
    comm = await connect(s.address)
    await send_recv(comm, op="register-client", client="ghost")
    comm.start_stream(ClientHeartbeat, lambda batch: None, lambda error: None)
    async with rpc(s.address) as remote:
        assert await remote.semaphore_acquire(name="x", lease_id="1", client="ghost", max_leases=1, fleeting=True)
        assert await remote.multi_lock_acquire(locks=["y"], id="2", client="ghost")
    assert [lease.end for lease in leases.values()] == [None, None]
    waiting = [asyncio.create_task(Lock("x").acquire()), asyncio.create_task(MultiLock(["y"]).acquire())]
    comm.abort()
    assert await asyncio.gather(*waiting) == [True, True]
    assert {lease.holder for lease in leases.values()} == {c.id}


@pytest.mark.parametrize("given_up", [False, True])
@gen_cluster(client=True, nthreads=[], config={"distributed.scheduler.locks.lease-validation-interval": "10ms"})
async def test_a_client_that_returns_keeps_what_it_held(c: Any, s: Any, given_up: bool) -> None:
    lock = Lock("x")
    await lock.acquire()
    (lease,) = s.extensions["leases"].core.leases.values()
    if given_up:
        s.remove_client(c.id)
    else:
        c.session.stream.abort()
    while lease.end is None:
        await asyncio.sleep(0)
    while lease.end is not None:
        await asyncio.sleep(0)
    assert await lock.locked()
    assert await lock.release()
    assert not await lock.locked()


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_client_that_dies_with_a_value_on_its_way_leaves_nothing(c: Any, s: Any, a: Any) -> None:
    queue = Queue("x")
    await queue.put(c.submit(inc, 1, key="on its way"))
    comm = await connect(s.address)
    await send_recv(comm, op="register-client", client="ghost")
    comm.start_stream(ClientHeartbeat, lambda batch: None, lambda error: None)
    async with rpc(s.address) as remote:
        answer = await remote.queue_get(name="x", client="ghost")
        assert answer["token"] in s.extensions["keeping"].handovers["ghost"]
    assert "on its way" in s.tasks
    s.remove_client("ghost")
    while "on its way" in s.tasks:
        await asyncio.sleep(0)
    assert not s.extensions["keeping"].keepers


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_getter_that_dies_takes_nothing_with_it(c: Any, s: Any, a: Any) -> None:
    waiting = s.extensions["queues"].waiting
    comm = await connect(s.address)
    dying = asyncio.create_task(send_recv(comm, op="queue_get", name="x"))
    while not waiting:
        await asyncio.sleep(0)
    server_side = next(iter(waiting._requests.values()))[0]
    living = asyncio.create_task(Queue("x").get())
    while len(waiting) < 2:
        await asyncio.sleep(0)
    dying.cancel()
    comm.abort()
    while not server_side.closed():
        await asyncio.sleep(0)
    await Queue("x").put(1)
    assert await living == 1
    await asyncio.wait([dying])


@gen_cluster(client=True, nthreads=[])
async def test_a_restart_forgets_work_and_what_workers_held(c: Any, s: Any) -> None:
    # no worker: tasks wait, and nothing of a restart takes time
    future = c.submit(inc, 1, key="work")
    for number in (1, 2):
        await Queue("queue").put(number if number == 2 else future)
    await Variable("kept").set(1)
    await Variable("gone").set([future])
    await c.publish_dataset(kept=1, gone=future)
    await Event("event").set()
    assert await Lock("mine").acquire()
    async with rpc(s.address) as remote:
        question = {"client": "ghost", "worker": "tcp://127.0.0.1:1"}
        assert await remote.semaphore_acquire(name="its", lease_id="1", max_leases=1, **question)
        assert await remote.multi_lock_acquire(locks=["its"], id="2", **question)
    await s.restart(wait_for_workers=False)
    assert not s.tasks
    assert not s.extensions["keeping"].keepers
    assert await Queue("queue").get(batch=True) == [2]
    assert await Variable("kept").get() == 1
    with pytest.raises(TimeoutError):
        await Variable("gone").get(timeout=0)
    assert await c.list_datasets() == ("kept",)
    assert await Event("event").is_set()
    assert not await Lock("mine").acquire(timeout=0)
    assert await Semaphore(1, "its").acquire(timeout=0)
    assert await MultiLock(["its"]).acquire(timeout=0)
