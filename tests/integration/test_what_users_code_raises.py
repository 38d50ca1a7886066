"""Whatever a user's code raises where it runs amid ours: that task or call errs, and nothing else notices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import Client, Scheduler, SchedulerPlugin, Worker, WorkerPlugin, wait
from headrace.exceptions import DeserializationError
from headrace.testing.helpers.polling import async_poll_for
from tests.integration.conftest import PATIENCE, Served

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")


class Panic(BaseException):
    """No `Exception`, as those of Rust are none."""


#: Also what would end a program, a coroutine or a loop.
ESCAPES = [Panic, SystemExit, GeneratorExit, asyncio.CancelledError]
escapes = pytest.mark.parametrize("kind", ESCAPES)


class RaisesOnPickling:
    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __dask_tokenize__(self) -> str:
        return self.kind.__name__

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise self.kind("pickling")


class RaisesOnUnpickling:
    def __init__(self, kind: type[BaseException], size: int = 10_000) -> None:
        self.kind = kind
        self.content = bytes(size)

    def __dask_tokenize__(self) -> str:
        return self.kind.__name__

    def __setstate__(self, state: Any) -> None:
        raise state["kind"]("unpickling")


class RaisesOnSizing:
    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __sizeof__(self) -> int:
        raise self.kind("sizing")


class Meta(type):
    def __hash__(cls) -> int:
        raise Panic("hash of a class")


class OfUnhashableClass(metaclass=Meta):
    pass


class FailsWhenShown(Exception):
    def __repr__(self) -> str:
        raise Panic("repr")

    __str__ = __repr__


class FailsWhenPickled(Exception):
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise Panic("reduce")


class FailsWhenAsked(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise Panic(name)


class FailsByClass(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise Panic("class")


class FailsInAll(BaseException):
    def __getattribute__(self, name: str) -> Any:
        raise FailsInAll

    def __repr__(self) -> str:
        raise FailsInAll

    __str__ = __repr__


BROKEN: list[type[BaseException]] = [FailsWhenShown, FailsWhenPickled, FailsWhenAsked, FailsByClass, FailsInAll]
broken = pytest.mark.parametrize("kind", BROKEN)


def raise_it(kind: type[BaseException]) -> None:
    raise kind


async def coroutine_that_raises(kind: type[BaseException]) -> None:
    raise kind


async def chained(kind: type[BaseException]) -> None:
    try:
        raise kind
    except BaseException as error:
        raise ValueError("on top") from error


def name_of(value: Any) -> str:
    return type(value).__name__


async def outcome(awaitable: Any) -> BaseException | None:
    """What came of a task or call: its exception, or None."""
    try:
        async with asyncio.timeout(PATIENCE):
            await awaitable
    except BaseException as error:
        return None if issubclass(type(error), TimeoutError) else error
    return None


async def exception_of(future: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await future.exception()


@broken
@pytest.mark.parametrize("function", [raise_it, coroutine_that_raises, chained])
async def test_an_exception_that_fails_its_readers_is_told(
    served: Served, kind: type[BaseException], function: Callable[..., Any]
) -> None:
    error = await exception_of(served.client.submit(function, kind))
    if function is chained:
        assert repr(error) == "ValueError('on top')"
    else:
        assert kind.__name__ in BaseException.__str__(error) + type(error).__name__
    assert len(served.worker.task_executor.pool._threads) == 2


@escapes
async def test_a_result_that_raises_as_it_is_fetched(served: Served, kind: type[BaseException]) -> None:
    future = served.client.submit(RaisesOnPickling, kind)
    await wait(future)
    assert future.status == "finished"
    assert isinstance(await outcome(future.result()), TypeError)
    loaded = served.client.submit(RaisesOnUnpickling, kind)
    error = await outcome(loaded.result())
    assert isinstance(error, DeserializationError)
    assert kind.__name__ in str(error)
    sized = served.client.submit(RaisesOnSizing, kind)
    assert await served.client.submit(name_of, sized) == "RaisesOnSizing"
    odd = served.client.submit(OfUnhashableClass)
    assert await served.client.submit(name_of, odd) == "OfUnhashableClass"


@escapes
async def test_arguments_that_raise(served: Served, kind: type[BaseException]) -> None:
    error = await exception_of(served.client.submit(name_of, RaisesOnUnpickling(kind), pure=False))
    assert isinstance(error, DeserializationError)
    assert kind.__name__ in str(error)
    with pytest.raises(TypeError, match="RaisesOnPickling"):
        served.client.submit(name_of, RaisesOnPickling(kind), pure=False)


@escapes
async def test_what_another_worker_sent_raises(served: Served, kind: type[BaseException]) -> None:
    async with Worker(served.scheduler.address, nthreads=1, validate=True) as other:
        here = [other.address]
        sent = [served.client.submit(RaisesOnUnpickling, kind, size, workers=here) for size in (10_000, 10_000_000)]
        await wait(sent)
        for future in sent:
            error = await exception_of(served.client.submit(name_of, future, workers=[served.worker.address]))
            assert kind.__name__ in str(error)
        later = served.client.submit(bytes, 100_000, workers=here)  # the same peer is asked for more
        assert await served.client.submit(len, later, workers=[served.worker.address]) == 100_000
        del sent, later, future


@escapes
async def test_scattered_values_that_raise(served: Served, kind: type[BaseException]) -> None:
    assert await outcome(served.client.scatter(RaisesOnUnpickling(kind))) is not None
    assert await outcome(served.client.scatter(RaisesOnPickling(kind))) is not None
    assert await outcome(served.client.scatter(RaisesOnUnpickling(kind), direct=False)) is not None
    sized = await served.client.scatter(RaisesOnSizing(kind))
    assert await served.client.submit(name_of, sized) == "RaisesOnSizing"


@pytest.mark.parametrize("kind", [*ESCAPES, *BROKEN])
async def test_functions_that_are_run_raise(served: Served, kind: type[BaseException]) -> None:
    for run in (served.client.run, served.client.run_on_scheduler):
        for function in (raise_it, coroutine_that_raises):
            assert await outcome(run(function, kind)) is not None  # type: ignore[operator]
    assert await outcome(served.client.run(coroutine_that_raises, kind, wait=False)) is None


class RaisingWorkerPlugin(WorkerPlugin):
    def __init__(self, kind: type[BaseException], hook: str) -> None:
        self.kind = kind
        self.hook = hook

    def setup(self, worker: Any) -> None:
        if self.hook == "setup":
            raise self.kind

    def transition(self, key: Any, start: Any, finish: Any, **kwargs: Any) -> None:
        raise self.kind

    def teardown(self, worker: Any) -> None:
        raise self.kind


class RaisingSchedulerPlugin(SchedulerPlugin):
    name = "raising"

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def transition(self, *args: Any, **kwargs: Any) -> None:
        raise self.kind

    def update_graph(self, *args: Any, **kwargs: Any) -> None:
        raise self.kind

    async def add_client(self, *args: Any, **kwargs: Any) -> None:
        raise self.kind

    def remove_client(self, *args: Any, **kwargs: Any) -> None:
        raise self.kind


@pytest.mark.parametrize("kind", [*ESCAPES, *BROKEN])
async def test_plugins_that_raise(served: Served, kind: type[BaseException]) -> None:
    assert await outcome(served.client.register_plugin(RaisingWorkerPlugin(kind, "setup"), name="setup")) is not None
    await served.client.register_plugin(RaisingWorkerPlugin(kind, "transition"), name="transition")
    await served.client.register_plugin(RaisingSchedulerPlugin(kind))
    assert await served.client.submit(sum, [1, 2], pure=False) == 3
    async with Client(served.scheduler.address, asynchronous=True, set_as_default=False) as other:
        assert await other.submit(sum, [1, 2], pure=False) == 3
    await outcome(served.client.unregister_worker_plugin("transition"))
    await served.client.unregister_scheduler_plugin("raising")


@pytest.mark.parametrize("kind", [*ESCAPES, *BROKEN])
async def test_callbacks_that_raise(served: Served, kind: type[BaseException]) -> None:
    called: list[Any] = []

    def callback(future: Any) -> None:
        called.append(future)
        raise kind

    def handler(event: Any) -> None:
        called.append(event)
        raise kind

    future = served.client.submit(sum, [1, 2])
    future.add_done_callback(callback)
    await future
    await async_poll_for(lambda: len(called) == 1)
    again = served.client.submit(sum, [2, 2])
    again.add_done_callback(called.append)
    await async_poll_for(lambda: len(called) == 2)
    await served.client.subscribe_topic("topic", handler)
    await served.client.log_event("topic", 1)
    await served.client.log_event("topic", 2)
    await async_poll_for(lambda: len(called) == 4)
    await served.client.unsubscribe_topic("topic")


class RaisingActor:
    def method(self, kind: type[BaseException]) -> None:
        raise kind

    async def coroutine(self, kind: type[BaseException]) -> None:
        raise kind

    def value(self, kind: type[BaseException]) -> Any:
        return RaisesOnPickling(kind)

    def fine(self) -> int:
        return 1


@pytest.mark.parametrize("kind", [*ESCAPES, *BROKEN])
async def test_actors_that_raise(served: Served, kind: type[BaseException]) -> None:
    actor = await served.client.submit(RaisingActor, actor=True)
    assert await outcome(actor.method(kind)) is not None
    assert await outcome(actor.coroutine(kind)) is not None
    assert await outcome(actor.value(kind)) is not None
    assert await actor.fine() == 1


@escapes
async def test_events_that_cannot_be_loaded(served: Served, kind: type[BaseException]) -> None:
    await outcome(served.client.log_event("odd", RaisesOnUnpickling(kind)))
    await outcome(served.client.get_events("odd"))


class RaisingMapping(dict[Any, Any]):
    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, RaisesOnSizing):
            raise value.kind
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        raise Panic("del")


@escapes
async def test_a_mapping_for_results_that_raises(kind: type[BaseException]) -> None:
    def metric(worker: Any) -> None:
        raise kind

    async with (
        asyncio.timeout(PATIENCE),
        Scheduler(host="127.0.0.1", port=0, validate=True) as scheduler,
        Worker(
            scheduler.address,
            nthreads=1,
            data=RaisingMapping(),
            metrics={"odd": metric},
            startup_information={"odd": metric},
            validate=True,
        ) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        assert kind.__name__ in str(await exception_of(client.submit(RaisesOnSizing, kind)))
        assert await client.submit(sum, [1, 2]) == 3
        await async_poll_for(lambda: not worker.data)
        assert await client.submit(sum, [3, 4]) == 7


def content(size: int) -> bytes:
    return bytes(size)


class LargeAndRaises(RaisesOnPickling):
    def __sizeof__(self) -> int:
        return 40_000_000


@escapes
async def test_values_that_raise_as_they_are_spilled(kind: type[BaseException]) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        Scheduler(host="127.0.0.1", port=0, validate=True) as scheduler,
        Worker(
            scheduler.address,
            nthreads=1,
            memory_limit=10_000_000_000,
            memory_target_fraction=0.01,
            memory_spill_fraction=False,
            memory_pause_fraction=False,
            validate=True,
        ) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        raising = client.submit(LargeAndRaises, kind)
        await wait(raising)
        others = client.map(content, [40_000_000 + number for number in range(4)])
        await wait(others)
        await async_poll_for(lambda: len(worker.data.disk) >= 2)
        assert await client.submit(name_of, raising) == "LargeAndRaises"
        assert "Headrace-Spill" in {thread.name for thread in threading.enumerate()}
