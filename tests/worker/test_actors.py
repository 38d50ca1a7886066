"""Actors on a whole cluster: made by clients, called by clients, tasks and each other, and lost."""

from __future__ import annotations

import asyncio
import builtins
import pickle
import threading
from typing import Any

import dask
import pytest

from headrace import Client, Worker, futures_of, get_client, get_worker, wait
from headrace.actor import REACTIONS, Actor, ActorFuture, BaseActorFuture, Channel, EagerActorFuture
from headrace.exceptions import LostActorError, UnknownMessage
from headrace.messages.actor_calls import ActorReply
from headrace.rpc import ConnectionPool
from headrace.testing.clusters import cluster, gen_cluster
from headrace.testing.helpers.polling import async_poll_for, poll_for


class Counter:
    n = 0

    def __init__(self, n: int = 0) -> None:
        self.n = n
        self.own = "own"

    def add(self, amount: int = 1) -> int:
        self.n += amount
        return self.n

    async def add_async(self) -> int:
        await asyncio.sleep(0)
        self.n += 1
        return self.n

    def fail(self) -> None:
        raise ValueError("the actor's own")

    def next(self) -> Any:
        return next(iter(()))

    def unpicklable(self) -> Any:
        return threading.Lock()

    def where(self) -> tuple[str, int]:
        return get_worker().address, threading.get_ident()

    def add_to(self, other: Any) -> tuple[int, str]:
        future = other.add()
        return future.result(timeout=10), type(future).__name__

    async def add_to_async(self, other: Any) -> int:
        return await other.add()  # type: ignore[no-any-return]

    def large(self, size: int) -> bytes:
        return bytes(size)

    @property
    def double(self) -> int:
        return 2 * self.n


class Node:
    """Holds on to another actor."""

    def __init__(self) -> None:
        self.other: Any = None

    def connect(self, other: Any) -> None:
        self.other = other

    def ask(self) -> int:
        return self.other.add().result(timeout=10)  # type: ignore[no-any-return]

    def make(self) -> Any:
        return get_client().submit(Counter, 10, actor=True).result(timeout=10).add().result(timeout=10)


@gen_cluster(client=True)
async def test_methods_and_attributes(c: Client, s: Any, a: Worker, b: Worker) -> None:
    future = c.submit(Counter, 5, actor=True, workers=a.address)
    actor = await future
    assert type(actor) is Actor
    assert repr(actor) == f"<Actor: Counter, key={future.key}>"
    assert isinstance(actor.client, Client)
    call = actor.add()
    assert isinstance(call, ActorFuture)
    assert isinstance(call, BaseActorFuture)
    assert await call == 6
    assert call.done()
    assert call.result() == 6
    assert await actor.add(amount=4) == 10
    assert await actor.add_async() == 11
    assert await actor.n == 11
    assert await actor.double == 22
    assert await actor.own == "own"
    address, thread = await actor.where()
    assert address == a.address
    assert thread != threading.get_ident()
    assert not hasattr(actor, "no_such")
    assert hasattr(pickle.loads(pickle.dumps(actor)), "own")
    assert await actor.add(separate_thread=False) == 12
    assert await actor.add_async(separate_thread=True) == 13
    assert len(await actor.large(3_000_000)) == 3_000_000
    assert s.tasks[future.key].actor
    assert s.workers[a.address].actors == {s.tasks[future.key]}
    assert isinstance(a.actors[future.key], Counter)
    assert "add" in dir(actor)
    assert actor == pickle.loads(pickle.dumps(actor))


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)] * 3)
async def test_actors_that_share_a_datum_are_spread(c: Client, s: Any, *workers: Worker) -> None:
    shared = (await c.scatter([b"x" * 1_000_000], workers=[workers[0].address]))[0]
    made = c.map(Counter, [shared] * 6, actor=True, pure=False)
    await wait(made)
    assert [len(each.actors) for each in workers] == [2, 2, 2]
    assert {len(each.actors) for each in s.workers.values()} == {2}


@gen_cluster(client=True)
async def test_one_collection_that_is_to_be_an_actor(c: Client, s: Any, a: Worker, b: Worker) -> None:
    counter = dask.delayed(Counter)(3)
    actor = await c.compute(counter, actors=counter)
    assert type(actor) is Actor
    assert await actor.n == 3
    assert type(await c.compute(dask.delayed(Counter)(4, dask_key_name="four"), actors="four")) is Actor


@gen_cluster(client=True)
async def test_exception_payloads(c: Client, s: Any, a: Worker, b: Worker) -> None:
    actor = await c.submit(Counter, actor=True)
    with pytest.raises(ValueError, match="the actor's own") as caught:
        await actor.fail()
    assert caught.traceback[-1].name == "fail"
    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await actor.next()
    with pytest.raises(TypeError, match="amuont"):
        await actor.add(amuont=1)
    with pytest.raises(TypeError, match="lock"):
        await actor.unpicklable()
    with pytest.raises(AttributeError, match="absent"):
        await actor.absent
    with pytest.raises(AttributeError, match="_private"):
        _ = actor._private
    with pytest.raises(AttributeError, match="only by its own methods"):
        actor.n = 5
    pending = actor.add()
    with pytest.raises(RuntimeError, match="await"):
        pending.result()
    assert await pending == 1


@gen_cluster(client=True)
async def test_calls_begin_in_the_order_in_which_they_are_made(c: Client, s: Any, a: Worker, b: Worker) -> None:
    actor = await c.submit(Counter, actor=True)
    calls = [actor.add() for _ in range(500)]
    assert await asyncio.gather(*calls) == list(range(1, 501))


@gen_cluster(client=True)
async def test_each_submission_makes_its_own(c: Client, s: Any, a: Worker, b: Worker) -> None:
    x, y, *more = await c.gather(
        [c.submit(Counter, actor=True), c.submit(Counter, actors=True), *c.map(Counter, [1, 2], actor=True)]
    )
    await x.add()
    assert await y.n == 0
    assert [await actor.n for actor in more] == [1, 2]


@gen_cluster(client=True)
async def test_collections_of_actors(c: Client, s: Any, a: Worker, b: Worker) -> None:
    number = dask.delayed(int)(5)
    counter = dask.delayed(Counter)(number)
    actor = await c.compute(counter, actors=True)
    assert await actor.add() == 6
    assert {task.prefix.name: task.actor for task in s.tasks.values()} == {"int": False, "Counter": True}
    future = c.compute(dask.delayed(Counter)(number, dask_key_name="named"), actors=["named"])
    assert await (await future).n == 5
    kept = c.persist(dask.delayed(Counter)(7), actors=True)
    assert await c.submit(read, futures_of(kept)[0], pure=False) == 21


def use(actor: Any) -> tuple[int, str]:
    return actor.add().result(timeout=10), get_worker().address


async def use_async(actor: Any) -> int:
    return await actor.add()  # type: ignore[no-any-return]


def read(actor: Any) -> int:
    return actor.n + actor.double  # type: ignore[no-any-return]


@gen_cluster(client=True)
async def test_tasks_call_actors_wherever_they_run(c: Client, s: Any, a: Worker, b: Worker) -> None:
    future = c.submit(Counter, actor=True, workers=a.address)
    actor = await future
    for number, (argument, worker) in enumerate([(actor, a), (actor, b), (future, a), (future, b), ([actor], b)]):
        function = use if not isinstance(argument, list) else (lambda actors: use(actors[0]))
        result = await c.submit(function, argument, workers=worker.address, pure=False)
        assert result == (number + 1, worker.address)
    assert await c.submit(use_async, actor, workers=b.address) == 6
    assert await c.submit(read, actor, workers=b.address, pure=False) == 18
    assert await c.submit(read, actor, workers=a.address, pure=False) == 18
    assert len(s.tasks[future.key].who_has) == 1


@pytest.mark.slow
@gen_cluster(client=True)
async def test_actors_call_actors(c: Client, s: Any, a: Worker, b: Worker) -> None:
    first, near, far = await c.gather([c.submit(Counter, actor=True, workers=worker.address) for worker in (a, a, b)])
    assert await first.add_to(near) == (1, "EagerActorFuture")
    assert await first.add_to(first) == (1, "EagerActorFuture")
    assert await first.add_to(far) == (1, "ActorFuture")
    assert await first.add_to_async(near) == 2
    assert await first.add_to_async(far) == 2
    node = await c.submit(Node, actor=True, workers=b.address)
    await node.connect(first)
    assert await node.ask() == 2
    assert await node.make() == 11


@gen_cluster(client=True)
async def test_an_actor_lives_as_long_as_somebody_has_it(c: Client, s: Any, a: Worker, b: Worker) -> None:
    future = c.submit(Counter, actor=True, workers=a.address)
    actor = await future
    key = future.key
    await c.submit(use, actor, workers=b.address)
    del future
    assert await actor.add() == 2
    assert key in s.tasks
    del actor
    await async_poll_for(lambda: key not in s.tasks and not a.actors, timeout=10)
    await async_poll_for(lambda: key not in b.data, timeout=10)


@gen_cluster(client=True)
async def test_a_lost_actor_is_a_clear_error(c: Client, s: Any, a: Worker, b: Worker) -> None:
    future = c.submit(Counter, actor=True, workers=a.address)
    actor = await future
    await actor.add()
    waiting = c.submit(use, actor, workers="nowhere")
    await a.close()
    with pytest.raises(LostActorError, match=future.key) as caught:
        await future
    assert isinstance(caught.value, RuntimeError)
    assert a.address in str(caught.value)
    with pytest.raises(LostActorError, match=future.key):
        await waiting
    with pytest.raises(LostActorError, match="Counter"):
        await actor.add()


@gen_cluster(client=True)
async def test_calls_under_way_fail_when_the_worker_goes(c: Client, s: Any, a: Worker, b: Worker) -> None:
    started = threading.Event()
    release = threading.Event()

    builtins._test_events = {"started": started, "release": release}  # type: ignore[attr-defined]
    try:
        actor = await c.submit(_Slow, actor=True, workers=a.address)
        call = actor.wait()
        await async_poll_for(started.is_set, timeout=10)
        await a.close(executor_wait=False)
        with pytest.raises(LostActorError):
            await call
    finally:
        release.set()
        del builtins._test_events  # type: ignore[attr-defined]


class _Slow:
    def wait(self) -> None:
        builtins._test_events["started"].set()  # type: ignore[attr-defined]
        builtins._test_events["release"].wait(20)  # type: ignore[attr-defined]


@gen_cluster(client=True, client_kwargs={"direct_to_workers": False})
async def test_a_client_that_cannot_reach_workers_goes_through_the_scheduler(
    c: Client, s: Any, a: Worker, b: Worker
) -> None:
    actor = await c.submit(Counter, actor=True)
    assert await actor.add(3) == 3
    assert await actor.n == 3
    with pytest.raises(ValueError, match="the actor's own"):
        await actor.fail()


@gen_cluster(client=True)
async def test_workers_with_actors_are_not_retired(c: Client, s: Any, a: Worker, b: Worker) -> None:
    actor = await c.submit(Counter, actor=True, workers=a.address)
    assert await c.retire_workers([a.address]) == {}
    assert await actor.add() == 1


@pytest.mark.slow
def test_a_synchronous_client_and_processes() -> None:
    with cluster() as (scheduler, workers), Client(scheduler["address"]) as client:
        addresses = [worker["address"] for worker in workers]
        future = client.submit(Counter, 1, actor=True, workers=addresses[0])
        actor = future.result(timeout=20)
        assert actor.n == 1
        assert actor.add(2).result(timeout=10) == 3
        assert client.submit(use, actor, workers=addresses[1]).result(timeout=20) == (4, addresses[1])
        assert client.submit(use, future, workers=addresses[0], pure=False).result(timeout=20) == (5, addresses[0])
        workers[0]["proc"].kill()
        workers[0]["proc"].wait()
        with pytest.raises(LostActorError, match="Counter"):
            actor.add().result(timeout=20)
        poll_for(lambda: future.status == "error", timeout=20)
        with pytest.raises(LostActorError, match=addresses[0]):
            future.result(timeout=20)


def test_eager_futures() -> None:
    future = EagerActorFuture(5)
    assert future.done()
    assert future.result() == 5
    assert future == EagerActorFuture(5)

    async def wait() -> int:
        return await future

    assert asyncio.run(wait()) == 5
    with pytest.raises(ValueError, match="neither here"):
        Actor(Counter, "tcp://127.0.0.1:1", "key").add()


async def test_callers_know_every_message_of_a_worker_and_refuse_others() -> None:
    assert set(REACTIONS) == {ActorReply}
    pool = ConnectionPool()
    with pytest.raises(UnknownMessage, match="of the class object"):
        Channel(pool, "tcp://127.0.0.1:1").handle(object())  # type: ignore[arg-type]
    await pool.close()
