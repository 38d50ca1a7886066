"""What tasks can do on a whole cluster: submit work of their own, secede, compute collections."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

import headrace
from headrace import Scheduler
from headrace.client import Client
from headrace.worker import Worker, get_client, get_worker, rejoin, secede, worker_client


@pytest.fixture(params=[True, False], ids=["processes", "threads"])
def client(request: Any) -> Iterator[Client]:
    with Client(n_workers=1, threads_per_worker=1, processes=request.param) as connected:
        yield connected


def fib(n: int) -> Any:
    if n < 2:
        return n
    with worker_client() as client:
        parts = client.map(fib, [n - 1, n - 2], pure=False)
        return sum(client.gather(parts))


def test_tasks_submit_tasks(client: Client) -> None:
    assert client.submit(fib, 6).result(timeout=30) == 8


def with_get_client(x: int) -> Any:
    client = get_client()
    future = client.submit(operator.add, x, 1)
    secede()
    result = future.result()
    rejoin()
    return result, get_worker().get_current_task()


def test_get_client_and_secede(client: Client) -> None:
    assert client.submit(with_get_client, 1, key="the-key").result(timeout=30) == (2, "the-key")


def compute_collection() -> Any:
    parts = [dask.delayed(operator.mul)(i, 2) for i in range(5)]
    return dask.delayed(sum)(parts).compute()


def test_collections_find_the_cluster(client: Client) -> None:
    assert client.submit(compute_collection).result(timeout=30) == 20


async def in_coroutine(x: int) -> Any:
    client = await get_client()
    return await client.submit(operator.neg, x), get_worker().get_current_task()


def test_coroutines_get_an_asynchronous_client() -> None:
    with Client(n_workers=1, threads_per_worker=2, processes=False) as client:  # a coroutine takes a slot as well
        assert client.submit(in_coroutine, 1, key="coroutine").result(timeout=30) == (-1, "coroutine")


def returns_a_future(x: int) -> Any:
    return get_client().submit(operator.neg, x)


def test_futures_travel(client: Client) -> None:
    inner = client.submit(returns_a_future, 5).result(timeout=30)
    assert inner.result(timeout=30) == -5


def prints_to_a_file(path: str) -> None:
    with open(path, "w") as file:
        headrace.print("for nobody", file=file)


def test_only_terminals_are_printed_to_from_afar(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "printed"
    with pytest.raises(TypeError, match=r"sys\.stderr.*not to <.*printed"):
        client.submit(prints_to_a_file, str(path)).result(timeout=30)
    assert path.read_text() == ""
    prints_to_a_file(str(path))
    assert path.read_text() == "for nobody\n"


async def test_everything_in_one_loop(tmp_path: Path) -> None:
    async with (
        Scheduler(host="127.0.0.1", validate=True) as scheduler,
        Worker(scheduler.address, nthreads=1, validate=True, local_directory=str(tmp_path)) as first,
        Worker(scheduler.address, nthreads=2, validate=True, local_directory=str(tmp_path)) as second,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        futures = client.map(operator.neg, range(50))
        total = client.submit(sum, futures)
        assert await total == -sum(range(50))
        assert first.executed_count + second.executed_count == 51
        one = client.submit(operator.neg, 1, workers=[first.address], key="one")
        other = client.submit(operator.add, one, 2, workers=[second.address], key="other")
        assert await other == 1
        assert "one" in second.data
        with pytest.raises(ZeroDivisionError):
            await client.submit(operator.truediv, 1, 0)
        del futures, total, one, other
        async with asyncio.timeout(10):
            while first.data or second.data or first.tasks or second.tasks:
                await asyncio.sleep(0.01)
