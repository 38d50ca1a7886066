"""What a failed call used is released as soon as its error has been handled, not when garbage is collected."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import dask
import pytest

from headrace import Client, LocalCluster, as_completed
from headrace.exceptions import DeserializationError, SerializationError


def fail(*_: Any) -> None:
    raise ZeroDivisionError("on purpose")


def fail_because() -> None:
    try:
        fail()
    except ZeroDivisionError as error:
        raise ValueError("on purpose, too") from error


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as client:
        yield client


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


WAYS: dict[str, Callable[[Client, Any, Any], Any]] = {
    "result": lambda client, good, bad: bad.result(),
    "gather": lambda client, good, bad: client.gather([good, bad]),
    "completed": lambda client, good, bad: list(as_completed([good, bad], with_results=True)),
    "collection": lambda client, good, bad: dask.delayed(fail)(good).compute(),
}


@pytest.mark.parametrize("function", [fail, fail_because])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("no_collection")
def test_futures_of_a_failed_call_are_released(client: Client, way: str, function: Callable[[], None]) -> None:
    def call() -> list[weakref.ref[Any]]:
        futures = [client.submit(abs, -1, pure=False), client.submit(function, pure=False)]
        with pytest.raises((ZeroDivisionError, ValueError)):
            WAYS[way](client, *futures)
        return [weakref.ref(future) for future in futures]

    assert [reference() for reference in call()] == [None, None]


class LoadFails:
    def __reduce__(self) -> Any:
        return int, ("x",)


def unpicklable() -> Any:
    return (x for x in [1])


#: What makes a result that cannot be brought here.
UNLOADABLE: dict[str, Callable[[], Any]] = {
    "unpicklable": unpicklable,
    "small": LoadFails,
    "large": lambda: [LoadFails(), bytes(1_000_000)],
}


@pytest.fixture(scope="module")
def distant() -> Iterator[Client]:
    """A client of a scheduler and a worker that are reached by sockets."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
        ) as near,
        Client(near.scheduler_address) as client,
    ):
        yield client


@pytest.mark.parametrize("name", UNLOADABLE)
@pytest.mark.parametrize("way", ["result", "gather"])
@pytest.mark.usefixtures("no_collection")
def test_futures_of_results_that_cannot_be_loaded_are_released(distant: Client, way: str, name: str) -> None:
    def call() -> list[weakref.ref[Any]]:
        futures = [distant.submit(abs, -1, pure=False), distant.submit(UNLOADABLE[name], pure=False)]
        with pytest.raises((DeserializationError, SerializationError)):
            WAYS[way](distant, *futures)
        return [weakref.ref(future) for future in futures]

    assert [reference() for reference in call()] == [None, None]
