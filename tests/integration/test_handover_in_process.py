"""Clusters in this process: buffers are shared, what cannot be pickled is handed over, results are not copied."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

from headrace import Client, Queue, Variable, fire_and_forget, wait
from headrace.testing.helpers.polling import poll_for


class Connection:
    """What cannot be pickled: it has a lock, as anything with a socket or a file does not either."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls = 0
        self.shape, self.ndim, self.dtype = (20,), 1, np.dtype(float)
        self.values = np.zeros(20)

    def use(self, *_: Any) -> Connection:
        with self.lock:
            self.calls += 1
        return self

    def __setitem__(self, where: Any, values: Any) -> None:
        with self.lock:
            self.values[where] = values


class Plain:
    """What can be pickled."""


def same(value: Any) -> Any:
    return value


def use(connection: Connection, *_: Any) -> int:
    return connection.use().calls


def set_first(values: Any) -> None:
    values[0] = 5


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        yield client


@pytest.mark.parametrize("lock", [True, False, threading.Lock()])
def test_store_into_an_array(client: Client, lock: Any) -> None:
    target = np.zeros((6, 6))
    da.store(da.arange(36, chunks=7).reshape(6, 6), target, lock=lock)
    assert (target == np.arange(36).reshape(6, 6)).all()


def test_store_into_what_cannot_be_pickled(client: Client) -> None:
    target = Connection()
    da.store(da.arange(20, chunks=5), target)
    assert (target.values == np.arange(20)).all()


@pytest.mark.parametrize("size", [3, 100_000])
def test_arrays_share_their_memory(client: Client, size: int) -> None:
    array = np.zeros(size)
    client.submit(set_first, array).result()
    assert array[0] == 5
    frozen = np.zeros(size)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        client.submit(set_first, frozen).result()


def test_a_function_shares_the_arrays_that_it_holds(client: Client) -> None:
    array = np.zeros(3)

    def change(position: int) -> None:
        array[position] += 1

    wait([client.submit(change, 0), *client.map(change, [1, 2])])
    client.submit(change, 0, pure=False).result()
    client.get({"x": (change, 2)}, "x")
    assert array.tolist() == [2, 1, 2]


def test_a_map_shares_its_keywords(client: Client) -> None:
    array, connection = np.zeros(3), Connection()

    def change(position: int, into: Any, by: Any) -> int:
        into[position] += 1
        return use(by)

    assert sorted(client.gather(client.map(change, range(3), into=array, by=connection))) == [1, 2, 3]
    assert array.tolist() == [1, 1, 1]


def test_what_can_be_pickled_is_copied(client: Client) -> None:
    plain, values = Plain(), [1, 2]
    assert client.submit(same, plain).result() is not plain
    client.submit(set_first, values).result()
    assert values == [1, 2]


def test_what_cannot_be_pickled_is_handed_over(client: Client) -> None:
    connection = Connection()
    assert client.submit(same, connection).result() is connection
    assert client.gather(client.map(same, [connection, 1])) == [connection, 1]
    assert client.submit(same, [1, {"a": connection}]).result()[1]["a"] is connection
    assert client.submit(same, value=connection).result() is connection
    assert client.submit(lambda: connection).result() is connection
    assert client.submit(connection.use).result() is connection
    assert client.get({"x": (same, connection), "y": (same, "x")}, "y") is connection
    assert client.get({"x": connection}, "x") is connection
    assert client.get({"x": (same, [(same, connection), 1])}, "x") == [connection, 1]
    assert client.compute(dask.delayed(use)(connection, dask.delayed(same)(1))).result() == 2
    assert client.submit(use, connection, client.submit(same, 1)).result() == 3


def test_containers_around_it_are_copied(client: Client) -> None:
    connection = Connection()
    values: list[Any] = [1, connection]
    client.submit(set_first, values).result()
    assert values == [1, connection]
    values.append(values)
    assert client.submit(lambda value: value[2] is value, values).result()


def test_results_are_not_copied(client: Client) -> None:
    future = client.submit(list)
    assert future.result() is future.result()
    future.result().append(1)
    assert client.submit(same, future).result() == [1]
    assert client.submit(threading.Lock).result().acquire(False)


def test_it_goes_between_workers(client: Client) -> None:
    first, second = client.scheduler_info()["workers"]
    connection = Connection()
    (future,) = client.scatter([connection], workers=[first])
    assert client.submit(same, future, workers=[second]).result() is connection
    made = client.submit(Connection, workers=[first])
    assert client.submit(same, made, workers=[second], pure=False).result() is made.result()


def test_keys(client: Client) -> None:
    connection = Connection()
    keys = [client.submit(same, np.arange(5)).key for _ in range(2)]
    assert keys[0] == keys[1] != client.submit(same, np.arange(6)).key
    keys = [client.submit(same, connection).key for _ in range(2)]
    assert keys[0] != keys[1]
    keys = [client.submit(lambda: connection).key for _ in range(2)]
    assert keys[0] != keys[1]


def test_retries_get_the_same_object(client: Client) -> None:
    connection = Connection()

    def fail_once(connection: Connection) -> int:
        if use(connection) == 1:
            raise ValueError("once")
        return connection.calls

    assert client.submit(fail_once, connection, retries=1).result() == 2


def test_fire_and_forget(client: Client) -> None:
    connection = Connection()
    fire_and_forget(client.submit(use, connection))
    poll_for(lambda: connection.calls == 1, 30)


def test_what_is_held_goes_with_the_futures(client: Client) -> None:
    connection, array, called = Connection(), np.zeros(5), Connection()
    references = [weakref.ref(each) for each in (connection, array, called)]
    futures = [client.submit(use, connection), client.submit(set_first, array), client.submit(called.use)]
    wait(futures)
    del connection, array, called, futures
    # what was sent is kept until it has been confirmed, as it is after so many messages
    for number in range(20):
        client.submit(same, number).result()

    def gone() -> bool:
        gc.collect()
        return [reference() for reference in references] == [None] * 3

    poll_for(gone, 30)


class Register:
    """An actor."""

    def same(self, value: Any) -> Any:
        return value

    async def later(self, value: Any) -> Any:
        return value


def test_actors(client: Client) -> None:
    connection, plain = Connection(), Plain()
    actor = client.submit(Register, actor=True).result()
    assert actor.same(connection).result() is connection
    assert actor.same(plain).result() is plain
    assert actor.later(connection).result() is connection


def test_values_at_the_scheduler_and_run(client: Client) -> None:
    connection = Connection()
    client.publish_dataset(connection, name="connection")
    assert client.get_dataset("connection") is connection
    client.unpublish_dataset("connection")
    variable, queue = Variable("handed over"), Queue("handed over")
    variable.set(connection)
    queue.put([connection])
    assert variable.get(timeout=10) is queue.get(timeout=10)[0] is connection
    variable.delete()
    queue.close()
    assert all(value is connection for value in client.run(same, connection).values())
    assert client.run_on_scheduler(lambda: connection) is connection
