"""`Client.get_executor`: the standard library's interface, with the standard library's own helpers."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import distributed
from distributed.cfexecutor import ClientExecutor
from headrace import Client, Lock
from headrace.testing.clusters import cluster
from headrace.testing.helpers.polling import poll_for
from tests.diagnostics.tasks import add, double, fail


def keyword(x: int = 0, workers: int = 0, priority: int = 0) -> tuple[int, int, int]:
    return x, workers, priority


def block(name: str) -> str:
    with Lock(name):
        return name


@pytest.fixture(scope="module")
def servers() -> Iterator[Any]:
    with cluster(nworkers=2) as (scheduler, workers):
        yield scheduler, workers


@pytest.fixture
def client(servers: Any) -> Iterator[Client]:
    """A client of two worker processes, in place of the fake scheduler that other tests of this folder have."""
    with Client(servers[0]["address"]) as connected:
        yield connected


@pytest.fixture
def executor(client: Client) -> Iterator[ClientExecutor]:
    with client.get_executor() as made:
        yield made


@pytest.mark.slow
def test_it_is_one(executor: ClientExecutor) -> None:
    assert isinstance(executor, concurrent.futures.Executor)
    future = executor.submit(double, 4)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(10) == 8
    assert future.done()
    assert not future.cancelled()
    assert future.exception() is None


def test_the_standard_librarys_helpers(executor: ClientExecutor) -> None:
    futures = [executor.submit(double, number) for number in range(10)]
    done, waiting = concurrent.futures.wait(futures, timeout=30)
    assert done == set(futures)
    assert not waiting
    futures = [executor.submit(double, number) for number in range(10)]
    found = sorted(future.result() for future in concurrent.futures.as_completed(futures, timeout=30))
    assert found == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]


def test_failures_and_callbacks(executor: ClientExecutor) -> None:
    called = threading.Event()
    future = executor.submit(fail, 1)
    future.add_done_callback(lambda _: called.set())
    with pytest.raises(ValueError, match="no & 1"):
        future.result(10)
    assert isinstance(future.exception(), ValueError)
    assert called.wait(10)


def test_keywords_are_the_functions(executor: ClientExecutor, client: Client) -> None:
    assert executor.submit(keyword, 1).result(10) == (1, 0, 0)
    assert executor.submit(keyword, x=2, workers=3, priority=4).result(10) == (2, 3, 4)
    inner = client.submit(double, 5)
    assert executor.submit(add, inner, y=1).result(10) == 11
    assert executor.submit(keyword, x=inner, workers=1).result(10) == (10, 1, 0)


def test_equal_calls_run_once_unless_they_are_not_pure(client: Client) -> None:
    import uuid

    with client.get_executor(pure=False) as executor:
        assert executor.submit(uuid.uuid4).result(10) != executor.submit(uuid.uuid4).result(10)
    with client.get_executor() as executor:
        one, other = executor.submit(uuid.uuid4), executor.submit(uuid.uuid4)
        assert one.result(10) == other.result(10)


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map(executor: ClientExecutor, chunksize: int) -> None:
    assert list(executor.map(add, range(8), range(100), chunksize=chunksize)) == list(range(0, 16, 2))
    assert list(executor.map(double, [], chunksize=chunksize)) == []
    results = executor.map(fail, [1, 2], chunksize=chunksize)
    with pytest.raises(ValueError, match="no & 1"):
        next(results)


def test_map_that_takes_too_long(executor: ClientExecutor, client: Client) -> None:
    with Lock("in-map", client=client):
        results = executor.map(block, ["in-map"], timeout=0.05)
        with pytest.raises(TimeoutError):
            next(results)


def test_bad_use(executor: ClientExecutor, client: Client) -> None:
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(double, [1], chunksize=0)
    with pytest.raises(TypeError, match="nope"):
        executor.map(double, [1], nope=1)
    with pytest.raises(TypeError, match=r"unsupported arguments to ClientExecutor: \['nope'\]"):
        client.get_executor(nope=1)
    executor.shutdown()
    for call in (lambda: executor.submit(double, 1), lambda: executor.map(double, [1])):
        with pytest.raises(RuntimeError, match="after shutdown"):
            call()
    with pytest.raises(Exception, match="get_executor"):
        distributed.CompatibleExecutor()


def test_cancelling(executor: ClientExecutor, client: Client) -> None:
    with Lock("cancelled", client=client):
        future = executor.submit(block, "cancelled")
        poll_for(lambda: any(client.processing().values()))
        assert future.cancel()
        assert future.cancelled()
        assert concurrent.futures.wait([future], timeout=10).done == {future}
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(10)
    poll_for(lambda: not any(client.processing().values()))
    done = executor.submit(double, 1)
    assert done.result(10) == 2
    assert not done.cancel()


def test_shutdown_without_waiting_cancels(client: Client) -> None:
    with Lock("shutdown", client=client):
        executor = client.get_executor()
        future = executor.submit(block, "shutdown")
        executor.shutdown(wait=False)
        assert future.cancelled()


def test_the_clients_cancellation_shows(client: Client) -> None:
    with Lock("by the client", client=client), client.get_executor() as executor:
        future: Any = executor.submit(block, "by the client")
        client.cancel([future._source], force=True)
        assert concurrent.futures.wait([future], timeout=10).done == {future}
        assert future.cancelled()
