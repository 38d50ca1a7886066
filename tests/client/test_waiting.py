"""Futures that were cancelled, and those of actors, where futures are waited for."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from operator import neg
from typing import Any

import pytest

from headrace import (
    ActorFuture,
    Client,
    Future,
    Scheduler,
    Worker,
    WorkerPlugin,
    as_completed,
    fire_and_forget,
    futures_of,
    get_worker,
    wait,
)
from headrace.client import FuturesCancelledError


class Counter:
    """An actor."""

    def __init__(self, start: int = 0) -> None:
        self.number = start

    def add(self, number: int) -> int:
        self.number += number
        return self.number

    def fail(self) -> None:
        raise ZeroDivisionError("of the actor")


class Asker:
    """An actor that calls another one, which is on its worker."""

    def __init__(self, counter: Any) -> None:
        self.counter = counter

    def ask(self) -> list[Any]:
        return [result for _, result in as_completed([self.counter.add(1), self.counter.add(1)], with_results=True)]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with (
        Scheduler(dashboard_address=":0", protocol="inproc") as scheduler,
        Worker(scheduler.address, nthreads=2, protocol="inproc"),
        Client(scheduler.address, asynchronous=True) as client,
    ):
        yield client


@pytest.fixture
async def cancelled(client: Client) -> Future[Any]:
    future = client.submit(threading.Event().is_set, pure=False)
    await client.cancel(future)
    assert future.status == "cancelled"
    return future


async def test_cancelled_futures_are_found_but_not_for_a_client(client: Client, cancelled: Future[Any]) -> None:
    other = client.submit(neg, 1)
    assert futures_of([other, cancelled]) == [other, cancelled]
    assert futures_of([other], client=client) == [other] == client.futures_of(other)
    for find in (lambda: futures_of([other, cancelled], client=client), lambda: client.futures_of([other, cancelled])):
        with pytest.raises(CancelledError, match="1 Future cancelled") as caught:
            find()
        assert type(caught.value) is FuturesCancelledError
    with pytest.raises(FuturesCancelledError):
        client.call_stack(cancelled)
    fire_and_forget([other, cancelled])


async def test_a_cancelled_future_cannot_be_retried(client: Client, cancelled: Future[Any]) -> None:
    for retry in (lambda: client.retry([cancelled]), cancelled.retry):
        with pytest.raises(KeyError, match=str(cancelled.key)) as caught:
            await retry()
        assert isinstance(caught.value, CancelledError)


async def test_calls_of_actors_complete_among_futures(client: Client) -> None:
    counter = await client.submit(Counter, actor=True)
    calls = [counter.add(1), client.submit(neg, 1), counter.add(1)]
    found = [future async for future in as_completed(calls)]
    assert set(found) == set(calls)
    assert sum(isinstance(future, ActorFuture) for future in found) == 2
    sequence = as_completed([counter.add(1)], with_results=True)
    sequence.add(counter.add(1))
    assert sorted([result async for _, result in sequence]) == [3, 4]


async def test_what_an_actors_method_raises_is_raised_or_told(client: Client) -> None:
    counter = await client.submit(Counter, actor=True)
    with pytest.raises(ZeroDivisionError, match="of the actor"):
        [_ async for _ in as_completed([counter.fail()], with_results=True)]
    ((_, told),) = [each async for each in as_completed([counter.fail()], with_results=True, raise_errors=False)]
    assert told[0] is ZeroDivisionError
    (failed,) = [future async for future in as_completed([counter.fail()])]
    with pytest.raises(ZeroDivisionError):
        await failed


async def test_calls_among_actors_of_one_worker_complete_too(client: Client) -> None:
    counter = await client.submit(Counter, 10, actor=True)
    asker = await client.submit(Asker, counter, actor=True)
    assert await asker.ask() == [11, 12]


async def test_wait_takes_no_notice_of_calls_of_actors(client: Client) -> None:
    counter = await client.submit(Counter, actor=True)
    call = counter.add(1)
    assert futures_of([call]) == []
    assert await wait([call]) == (set(), set())
    assert await call == 1


class Asks(WorkerPlugin):
    """Asks for its worker where no task runs."""

    def setup(self, worker: Any) -> None:
        with pytest.raises(ValueError, match="No worker found"):
            get_worker()
        worker.has_asked = True


async def test_there_is_no_worker_outside_of_tasks(client: Client) -> None:
    with pytest.raises(ValueError, match="No worker found"):
        get_worker()

    await client.register_plugin(Asks())
    assert all((await client.run(lambda dask_worker: dask_worker.has_asked)).values())

    async def in_task() -> str:
        return str(get_worker().address)

    def in_thread() -> object:
        outcome: list[object] = []

        def ask() -> None:
            try:
                outcome.append(get_worker())
            except ValueError:
                outcome.append("none")

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return outcome[0]

    (address,) = client.scheduler_info()["workers"]
    assert await client.submit(in_task) == address
    assert await client.submit(lambda: get_worker().address) == address
    assert await client.submit(in_thread) == "none"


async def test_map_without_iterables_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="at least one iterable"):
        client.map(neg)
    with pytest.raises(TypeError, match="at least one iterable"):
        client.map(neg, a=1)
    assert client.map(neg, []) == []
