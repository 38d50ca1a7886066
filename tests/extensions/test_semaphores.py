"""Semaphore and MultiLock: from clients, tasks and connections of their own."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest

from headrace import Client, MultiLock, Semaphore, Worker
from headrace.rpc import rpc
from headrace.testing.clusters import gen_cluster


def test_the_documented_example(client: Client) -> None:
    sem = Semaphore(max_leases=2, name="my_database")

    def access_resource(s: Any, sem: Semaphore) -> None:
        # This automatically acquires a lease from the semaphore (if available) which will be
        # released when leaving the context manager.
        with sem:
            pass

    futures = client.map(access_resource, range(10), sem=sem)
    client.gather(futures)
    # Once done, close the semaphore to clean up the state on scheduler side.
    sem.close()
    assert "my_database" not in client.cluster.scheduler.extensions["semaphores"].core.by_name


def test_no_more_than_so_many_at_a_time(client: Client) -> None:
    inside, most = [], 0
    lock = threading.Lock()

    def access(number: int, sem: Semaphore) -> None:
        nonlocal most
        with sem:
            with lock:
                inside.append(number)
                most = max(most, len(inside))
            with lock:
                inside.remove(number)

    threads = [threading.Thread(target=access, args=(n, Semaphore(3, "so many"))) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= 3


def test_leases_are_counted(client: Client) -> None:
    sem = Semaphore(2, "counted")
    assert sem.acquire()
    assert sem.acquire(timeout=1)
    assert not sem.acquire(timeout="10ms")
    assert sem.get_value() == 2
    other = pickle.loads(pickle.dumps(sem))
    assert (other.name, other.max_leases) == ("counted", 2)
    with pytest.raises(RuntimeError, match="Released too often"):
        other.release()
    assert sem.release()
    assert other.acquire()
    assert other.release()
    assert sem.release()
    with pytest.raises(RuntimeError, match="Released too often"):
        sem.release()
    with pytest.raises(ValueError, match="Inconsistent max leases: 3, expected: 2"):
        Semaphore(3, "counted").acquire()
    with pytest.raises(ValueError, match="positive"):
        Semaphore(0)
    with pytest.raises(ValueError, match="positive"):
        Semaphore("a")  # type: ignore[arg-type]


def test_closing_forgets_it(client: Client) -> None:
    sem = Semaphore(1, "closed")
    sem.register()
    sem.acquire()
    with pytest.warns(RuntimeWarning, match="there remain unreleased leases: 1"):
        sem.close()
    assert sem.get_value() == 0
    with pytest.raises(RuntimeError, match="not known"):
        sem.acquire()
    with pytest.raises(RuntimeError, match="Released too often"):
        sem.release()


@gen_cluster(client=True, nthreads=[("127.0.0.1", 2)])
async def test_semaphores_asynchronously(c: Any, s: Any, a: Any) -> None:
    sem = await Semaphore(2, "async")
    async with sem:
        assert await sem.get_value() == 1
        assert await sem.acquire()
        waiting = asyncio.create_task(Semaphore(2, "async").acquire())
        while not s.extensions["semaphores"].waiting:
            await asyncio.sleep(0)
        with pytest.warns(RuntimeWarning, match="unreleased leases: 2"):
            await sem.close()
        with pytest.raises(RuntimeError, match="closed while this waited"):
            await waiting
        await sem.register()
        await sem.acquire()
    assert await sem.get_value() == 0

    async def task(sem: Semaphore) -> int:
        async with sem:
            return int(await sem.get_value())

    assert await c.gather(c.map(task, [Semaphore(1, "task")] * 3, pure=False)) == [1, 1, 1]


@gen_cluster(client=True, nthreads=[], config={"distributed.scheduler.locks.lease-timeout": "1s"})
async def test_without_a_client_leases_are_refreshed(c: Any, s: Any) -> None:
    leases = s.extensions["semaphores"].leases.core.leases
    async with rpc(s.address) as remote:
        sem = Semaphore(1, "alone", scheduler_rpc=remote)
        assert sem.asynchronous
        assert await sem.acquire()
        (lease,) = leases.values()
        end = lease.end
        while lease.end == end:
            await asyncio.sleep(0.01)
        assert lease.end > end
        assert await sem.release()
        assert not leases
        while sem.refresh_callback is not None:
            await asyncio.sleep(0.01)


# MultiLock


def test_names_are_locked_together(client: Client) -> None:
    lock, other = MultiLock(["x", "y"]), MultiLock(["y", "z"])
    assert lock.acquire(timeout=1)
    assert lock.locked()
    assert not other.acquire(blocking=False)
    assert not other.acquire(timeout=0.01)
    assert not other.locked()
    assert other.acquire(num_locks=1)
    lock.release()
    with pytest.raises(ValueError, match="not yet acquired"):
        lock.release()
    with other.__class__(["x", "y"]) as third:
        assert third.locked()
    other.release()


def test_bad_use_of_a_multi_lock_is_named(client: Client) -> None:
    with pytest.raises(ValueError, match="timeout"):
        MultiLock(["x"]).acquire(blocking=False, timeout=1)
    with pytest.raises(ValueError, match="number of names"):
        MultiLock(["x"]).acquire(num_locks=2)
    with MultiLock(["x"]) as lock, pytest.raises(RuntimeError, match="release it first"):
        lock.acquire()


def test_tasks_with_crossing_names_all_end(client: Client) -> None:
    def use(number: int) -> int:
        names = [str(number % 3), str((number + 1) % 3)]
        with MultiLock(names if number % 2 else names[::-1]):
            return number

    assert client.gather(client.map(use, range(60), pure=False)) == list(range(60))
    core = client.cluster.scheduler.extensions["multi_locks"].core
    assert not core.lines
    assert not core.requests


def test_threads_share_one_object(client: Client) -> None:
    lock, names = MultiLock(["shared", "by threads"]), []

    def use() -> None:
        with lock:
            names.append("in")
            names.append("out")

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == ["in", "out"] * 8
    assert not lock.locked()


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_multi_locks_asynchronously(c: Any, s: Any, a: Worker) -> None:
    extension = s.extensions["multi_locks"]
    async with MultiLock(["x", "y"]) as lock:
        assert lock.locked()
        gives_up = asyncio.create_task(MultiLock(["y", "z"]).acquire())
        waits = asyncio.create_task(MultiLock(["z"]).acquire())
        while len(extension.waiting) < 2:
            await asyncio.sleep(0)
        gives_up.cancel()
        assert await waits
    while set(extension.core.lines) != {"z"}:
        await asyncio.sleep(0)
