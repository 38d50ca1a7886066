"""What is had by calls that break: connections that are cut, and tasks that are interrupted while they wait."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from headrace import Client, Event, Lock, MultiLock, Queue, Semaphore
from headrace.exceptions import CommClosedError
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for, poll_for

KINDS: list[Any] = [
    pytest.param(Lock, "semaphore", id="lock"),
    pytest.param(lambda name: Semaphore(1, name), "semaphore", id="semaphore"),
    pytest.param(lambda name: MultiLock([name]), "multi_lock", id="multi-lock"),
]


def cut_once(scheduler: Any, operation: str, before: bool) -> None:
    """The next request of a kind has its connection cut: before it is seen, or when it has been done."""
    handlers = scheduler.server.handlers
    real = handlers[operation]

    async def handler(comm: Any = None, **question: Any) -> None:
        handlers[operation] = real
        if not before:
            if "comm" in inspect.signature(real).parameters:
                question["comm"] = comm
            answer = real(**question)
            if inspect.isawaitable(answer):
                await answer
        comm.abort()

    handlers[operation] = handler


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("make", "operation"), KINDS)
@gen_cluster(client=True, nthreads=[])
async def test_a_request_that_is_cut_off_leaves_nothing_locked(
    c: Any, s: Any, make: Callable[[str], Any], operation: str, before: bool
) -> None:
    cut_once(s, f"{operation}_acquire", before)
    with pytest.raises(CommClosedError):
        await make("x").acquire()
    lock = make("x")
    assert await lock.acquire(timeout=10)
    cut_once(s, f"{operation}_release", before)
    await lock.release()
    assert await make("x").acquire(timeout=10)


@pytest.mark.parametrize(("make", "operation"), KINDS)
def test_what_is_had_when_the_call_is_interrupted_is_given_back(
    client: Client, monkeypatch: pytest.MonkeyPatch, make: Callable[[str], Any], operation: str
) -> None:
    interrupt_when_had(client, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        make("interrupted").acquire()
    monkeypatch.undo()
    lock = make("interrupted")
    assert lock.acquire(timeout=10)
    lock.release()


def interrupt_when_had(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception strikes in the calling thread when it wakes up with the answer."""
    sync = client.sync

    def interrupted(*args: Any, **kwargs: Any) -> None:
        sync(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "sync", interrupted)


def test_a_value_that_comes_when_the_call_is_interrupted_is_given_back(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue("interrupted")
    queue.put(1)
    queue.put(2)
    interrupt_when_had(client, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        queue.get()
    monkeypatch.undo()
    poll_for(lambda: queue.qsize() == 2, 10)
    assert queue.get(batch=2) == [1, 2]
    queue.close()


def waits_for(make: Callable[[str], Any], name: str) -> None:
    Event(f"begun-{name}").set()
    make(name).acquire()


def test_cancelled_tasks_that_wait_take_nothing_with_them(client: Client) -> None:
    locks = [Lock(f"waited-{number}") for number in range(4)]
    for lock in locks:
        assert lock.acquire()
        future = client.submit(waits_for, Lock, lock.name, pure=False)
        assert Event(f"begun-{lock.name}").wait(10)
        future.cancel(running=True)
        lock.release()
    for lock in locks:
        assert lock.acquire(timeout=20)
        lock.release()


@gen_cluster(client=True, nthreads=[])
async def test_a_batch_takes_what_others_wait_to_put(c: Any, s: Any) -> None:
    queue = Queue("small", maxsize=1)
    puts = [asyncio.create_task(queue.put(value)) for value in range(3)]
    await async_poll_for(lambda: "small" in s.extensions["queues"].queues, 10)
    await async_poll_for(lambda: len(s.extensions["queues"].queues["small"].putters) == 2, 10)
    assert sorted(await asyncio.wait_for(queue.get(batch=3), 20)) == [0, 1, 2]
    await asyncio.gather(*puts)
    assert await queue.qsize() == 0


@gen_cluster(client=True, nthreads=[])
async def test_first_requests_at_once_know_the_size(c: Any, s: Any) -> None:
    queue = Queue("bounded", maxsize=1)
    puts = [asyncio.create_task(queue.put(value)) for value in range(3)]
    await async_poll_for(lambda: "bounded" in s.extensions["queues"].queues, 10)
    await async_poll_for(lambda: len(s.extensions["queues"].queues["bounded"].putters) == 2, 10)
    assert await queue.qsize() == 1
    assert s.extensions["queues"].queues["bounded"].handles == 1
    for _ in range(3):
        await queue.get()
    await asyncio.gather(*puts)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_queue_that_goes_lets_go_of_what_a_batch_has_collected(c: Any, s: Any, a: Any) -> None:
    queue = Queue("collected")
    await queue
    batch = asyncio.create_task(queue.get(batch=2))
    future = c.submit(int, "1")
    await future
    key = future.key
    await queue.put(future)
    while not any(getter.items for getter in s.extensions["queues"].queues["collected"].getters.values()):
        await asyncio.sleep(0)
    await queue.close()
    with pytest.raises(RuntimeError, match="closed"):
        await batch
    future.release()
    await async_poll_for(lambda: key not in s.tasks, 10)
