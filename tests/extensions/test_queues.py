"""Queue and Variable: values and futures, from clients and tasks, with waiting, timeouts and those who go."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headrace import Client, Event, Future, Lock, MultiLock, Queue, Variable, get_client
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for, poll_for
from headrace.testing.helpers.sample_functions import inc


class Odd:
    """A class that the scheduler must not have to load."""

    def __reduce__(self) -> Any:
        return _only_where_wanted, ()


def _only_where_wanted() -> str:
    return "loaded"


def test_first_in_first_out(client: Client) -> None:
    queue = Queue("fifo")
    for value in (1, [1, (2, 3), {"a": {1, 2}}], None, Odd()):
        queue.put(value)
    assert queue.qsize() == 4
    assert queue.get() == 1
    assert queue.get() == [1, (2, 3), {"a": {1, 2}}]
    assert queue.get() is None
    assert queue.get() == "loaded"
    array = np.arange(100_000)
    queue.put(array)
    assert (queue.get() == array).all()
    with pytest.raises(TimeoutError, match="nothing came"):
        queue.get(timeout="10ms")
    with pytest.raises(TimeoutError):
        queue.get(timeout=0)


def test_a_value_is_a_copy(client: Client) -> None:
    value = [1]
    Queue("copy").put(value)
    value.append(2)
    assert Queue("copy").get() == [1]


def test_batches(client: Client) -> None:
    queue = Queue("batches")
    assert queue.get(batch=True) == []
    for value in range(5):
        queue.put(value)
    assert queue.get(batch=2) == [0, 1]
    assert queue.get(batch=True) == [2, 3, 4]
    with pytest.raises(NotImplementedError, match="leave out one"):
        queue.get(batch=2, timeout=1)


def test_a_full_queue(client: Client) -> None:
    queue = Queue("full", maxsize=1)
    queue.put(1)
    with pytest.raises(TimeoutError, match="full"):
        queue.put(2, timeout="10ms")
    with pytest.raises(TimeoutError, match="full"):
        pickle.loads(pickle.dumps(queue)).put(2, timeout=0)
    future = client.submit(lambda queue: queue.put(3), queue)
    assert queue.get() == 1
    assert queue.get(timeout=30) == 3
    assert future.result() is None
    assert queue.get(batch=True) == []


def test_what_cannot_be_pickled_is_named_unless_it_stays_in_this_process(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    Variable("unpicklable").set(lock)
    assert Variable("unpicklable").get() is lock
    Variable("unpicklable").delete()
    monkeypatch.setattr(client.session, "in_process", False)
    with pytest.raises(TypeError, match="lock"):
        Queue("unpicklable").put(lock)
    with pytest.raises(TypeError, match="lock"):
        Variable("unpicklable").set(lock)


def test_a_queue_goes_with_its_last_handle(client: Client) -> None:
    queue, other = Queue("handles"), Queue("handles")
    queue.put(1)
    other.put(2)
    queue.close()
    assert other.qsize() == 2
    other.close()
    assert "handles" not in client.cluster.scheduler.extensions["queues"].queues
    assert Queue("handles").qsize() == 0


def test_futures_in_a_queue_are_kept(client: Client) -> None:
    scheduler = client.cluster.scheduler
    queue = Queue("futures")
    future = client.submit(inc, 1, key="kept")
    queue.put(future)
    del future
    queue.put({"nested": [client.submit(inc, 2, key="nested")]})
    poll_for(lambda: not [task.key for task in scheduler.clients[client.id].wants_what], timeout=10)
    assert {"kept", "nested"} <= set(scheduler.tasks)
    future = queue.get()
    assert isinstance(future, Future)
    assert future.result() == 2
    nested = queue.get()["nested"][0]
    assert nested.status == "finished"
    del future, nested
    poll_for(lambda: not {"kept", "nested"} & set(scheduler.tasks), timeout=10)
    assert not scheduler.extensions["keeping"].keepers


def test_a_future_that_is_put_and_got_at_once_is_never_lost(client: Client) -> None:
    queue, variable = Queue("at once"), Variable("at once")
    for number in range(50):
        queue.put(client.submit(inc, number, pure=False))
        assert queue.get().result() == number + 1
        variable.set(client.submit(inc, number, pure=False))
        assert variable.get().result() == number + 1
    variable.delete()


def test_futures_outlive_the_client_that_put_them(client: Client) -> None:
    with Client(client.cluster, set_as_default=False) as other:
        Queue("outlive", client=other).put(other.submit(inc, 1, key="outlive"))
        Variable("outlive", client=other).set(other.submit(inc, 2, key="outlive too"))
    assert Queue("outlive").get().result() == 2
    assert Variable("outlive").get().result() == 3
    Variable("outlive").delete()


def test_failures_come_out_as_failures(client: Client) -> None:
    queue = Queue("failures")
    failing = client.submit(lambda: 1 / 0)
    queue.put(failing)
    failing.exception()
    del failing
    future = queue.get()
    assert future.status == "error"
    with pytest.raises(ZeroDivisionError):
        future.result()


def test_tasks_put_and_get(client: Client) -> None:
    def produce(number: int, queue: Queue) -> None:
        queue.put(get_client().submit(inc, number, pure=False))

    def consume(_: int, queue: Queue) -> int:
        return int(queue.get(timeout=30).result())

    queue = Queue("tasks")
    producing = client.map(produce, range(10), queue=queue)
    consuming = client.map(consume, range(10), queue=queue)
    assert sorted(client.gather(consuming)) == list(range(1, 11))
    client.gather(producing)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_queues_asynchronously(c: Any, s: Any, a: Any) -> None:
    queue = await Queue("x", maxsize=1)
    await queue.put(1)
    putting = asyncio.create_task(queue.put(c.submit(inc, 1)))
    assert await queue.get() == 1
    await putting
    assert await (await queue.get()) == 2
    assert await queue.qsize() == 0
    waiting = [asyncio.create_task(queue.get()) for _ in range(2)]
    while len(s.extensions["queues"].waiting) < 2:
        await asyncio.sleep(0)
    waiting[0].cancel()  # gives up: it takes nothing with it
    await asyncio.wait(waiting[:1])
    await queue.put("a")
    assert await waiting[1] == "a"
    closing = asyncio.create_task(queue.get())
    while not s.extensions["queues"].waiting:
        await asyncio.sleep(0)
    await queue.close()
    with pytest.raises(RuntimeError, match="closed while this waited"):
        await closing


@gen_cluster(client=True, nthreads=[])
async def test_large_values_go_through_the_scheduler_unopened(c: Any, s: Any) -> None:
    array = np.arange(2_000_000)
    await Variable("large").set({"array": array, "odd": Odd()})
    for _ in range(2):
        value = await Variable("large").get()
        assert (value["array"] == array).all()
        assert value["odd"] == "loaded"
    await Queue("large").put(array)
    assert (await Queue("large").get() == array).all()


def holding_answers(client: Any, op: str) -> tuple[asyncio.Event, Callable[[], None]]:
    """The answers to an operation come one turn late; returns an event that is set as one has come."""
    original, came = client._call, asyncio.Event()

    async def late(asked: str, **kwargs: Any) -> Any:
        answer = await original(asked, **kwargs)
        if asked == op:
            came.set()
            await asyncio.sleep(0)
        return answer

    client._call = late
    return came, lambda: setattr(client, "_call", original)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_value_that_crosses_a_cancellation_is_given_back(c: Any, s: Any, a: Any) -> None:
    queue = Queue("x")
    await queue.put([c.submit(inc, 1)])
    await queue.put(2)
    came, undo = holding_answers(c, "queue_get")
    task = asyncio.create_task(queue.get())
    await came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    undo()
    while await queue.qsize() < 2:
        await asyncio.sleep(0)
    (future,) = await queue.get()
    assert await future == 2
    assert await queue.get() == 2


# Variable


def test_a_variable(client: Client) -> None:
    x = Variable("x")
    with pytest.raises(TimeoutError, match="not set"):
        x.get(timeout="10ms")
    with pytest.raises(TimeoutError, match="not set"):
        x.get(timeout=0)
    for value in (123, (1, {"a"}), None, Odd()):
        x.set(value)
        assert x.get() == ("loaded" if isinstance(value, Odd) else value)
        assert pickle.loads(pickle.dumps(x)).get(timeout=1) == ("loaded" if isinstance(value, Odd) else value)
    x.delete()
    x.delete()
    with pytest.raises(TimeoutError):
        x.get(timeout=0)


def test_futures_in_a_variable_are_kept_until_it_changes(client: Client) -> None:
    scheduler = client.cluster.scheduler
    variable = Variable("kept")
    variable.set(client.submit(inc, 1, key="first"))
    poll_for(lambda: not scheduler.clients[client.id].wants_what, timeout=10)
    assert variable.get().result() == 2
    assert variable.get().result() == 2
    variable.set(client.submit(inc, 2, key="second"))
    poll_for(lambda: "first" not in scheduler.tasks, timeout=10)
    assert variable.get().result() == 3
    variable.delete()
    poll_for(lambda: "second" not in scheduler.tasks, timeout=10)
    assert not scheduler.extensions["keeping"].keepers


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_variables_asynchronously(c: Any, s: Any, a: Any) -> None:
    x = Variable("x")
    waiting = [asyncio.create_task(Variable("x").get()) for _ in range(2)]
    while len(s.extensions["variables"].waiting) < 2:
        await asyncio.sleep(0)
    await x.set(c.submit(inc, 1))
    await x.delete()
    assert [await future for future in await asyncio.gather(*waiting)] == [2, 2]

    async def task(x: Variable) -> int:
        await x.set(5)
        return int(await x.get())

    assert await c.submit(task, x) == 5
    assert await x.get() == 5


@gen_cluster(client=True, nthreads=[("", 1)])
async def test_futures_that_are_cancelled_are_not_taken(c: Any, s: Any, a: Any) -> None:
    cancelled = c.submit(int, 77)
    await cancelled.cancel()
    for put in ((await Queue("q")).put, Variable("v").set):
        with pytest.raises(TimeoutError, match="unknown to scheduler"):
            await put([cancelled], timeout="100ms")
    assert await Queue("q").get(batch=True) == []


@gen_cluster(client=True, nthreads=[("", 1)])
async def test_what_is_not_awaited_is_done_all_the_same(c: Any, s: Any, a: Any) -> None:
    variable, future = Variable("v"), c.submit(int, 77)
    queue = await Queue("q")
    await variable.set(future)
    await queue.put(future)
    key = future.key
    del future
    variable.delete()
    queue.close()
    await async_poll_for(lambda: key not in s.tasks, timeout=5)


@gen_cluster(client=True, nthreads=[("", 1)])
async def test_a_list_is_a_name_as_a_tuple_is(c: Any, s: Any, a: Any) -> None:
    name = ["a", [1]]
    await Event(name).set()
    assert await Event(("a", (1,))).is_set()
    await (await Queue(name)).put(5)
    assert await (await Queue(("a", (1,)))).get() == 5
    await Variable(name).set(6)
    assert await Variable(("a", (1,))).get() == 6
    assert await Lock(name).acquire()
    assert not await Lock(("a", (1,))).acquire(timeout=0)
    assert await MultiLock([name]).acquire()
