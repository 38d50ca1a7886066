"""The client with the real scheduler and workers, over tcp and in memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import traceback
import warnings
from collections.abc import AsyncIterator, Iterator
from operator import add
from typing import Any, NamedTuple

import dask
import numpy as np
import pytest
from dask.tokenize import tokenize

from headrace import Client, Scheduler, Worker, as_completed, futures_of, get_client, get_worker, wait
from headrace.client import FutureCancelledError
from headrace.client.link.fetch_lanes import WIDTH
from headrace.deploy import LocalCluster
from headrace.exceptions import WorkerStartTimeoutError

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")


def inc(x: int) -> int:
    return x + 1


def fail(x: Any) -> None:
    raise ZeroDivisionError(x)


def inner_sum(count: int) -> int:
    client = get_client()
    return sum(client.gather(client.map(inc, range(count))))


class Holder:
    """Hides a future inside an object that nobody looks into."""

    def __init__(self, future: Any) -> None:
        self.future = future

    def key(self) -> Any:
        return self.future.key


@pytest.fixture(params=["tcp://127.0.0.1", "inproc://"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    protocol = request.param.split("://")[0]
    keywords: dict[str, Any] = {"protocol": protocol}
    if protocol == "tcp":
        keywords["host"] = "127.0.0.1"
    async with (
        Scheduler(dashboard_address=":0", **keywords) as scheduler,
        Worker(scheduler.address, nthreads=1, **keywords),
        Worker(scheduler.address, nthreads=2, **keywords),
        Client(scheduler.address, asynchronous=True) as client,
    ):
        yield client


async def test_results_that_are_fetched_one_by_one_take_few_connections(client: Client) -> None:
    futures = client.map(bytes, range(100_000, 100_200))
    await wait(futures)
    results = await asyncio.gather(*[future.result() for future in futures])
    assert [len(result) for result in results] == list(range(100_000, 100_200))
    del results
    fetched = {future.key: len(result) async for future, result in as_completed(futures, with_results=True)}
    assert fetched == {future.key: 100_000 + place for place, future in enumerate(futures)}
    assert client.session.pool.open <= 5 * WIDTH


async def test_the_scheduler_says_what_may_be_asked_twice(client: Client) -> None:
    questions = {"gather", "get_metadata", "identity", "ncores_running", "result_deaths", "who_has"}
    assert client.session.repeatable >= {*questions, "multi_lock_release", "semaphore_release"}
    assert not client.session.repeatable & {"cancel", "retry", "run_function", "scatter", "semaphore_acquire"}


@pytest.fixture
def local() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


async def test_submit_map_gather(client: Client) -> None:
    a = client.submit(inc, 1)
    b = client.submit(add, a, [10][0], key=("b", 1))
    assert await b == 12
    assert await client.submit(sum, [a, b]) == 14
    futures = client.map(inc, range(2000), batch_size=300)
    assert await client.gather(futures) == list(range(1, 2001))
    assert await client.gather({"x": [a, (b,)]}) == {"x": [2, (12,)]}
    assert await client.submit(inc, 1, key=b"bytes") == 2


async def test_errors_come_from_the_users_code(client: Client) -> None:
    bad = client.submit(fail, "boom")
    dependent = client.submit(inc, bad)
    for future in (bad, dependent):
        with pytest.raises(ZeroDivisionError, match="boom") as caught:
            await future
        assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"
    assert await client.gather([client.submit(inc, 1), bad], errors="skip") == [2]
    await bad.retry()
    await wait(bad)
    assert bad.status == "error"


class Pair(NamedTuple):
    left: Any
    right: Any = None


class Doubled(Pair):
    """A named tuple whose constructor takes something else than its fields."""

    def __new__(cls, both: Any) -> Doubled:
        return super().__new__(cls, both, both)

    def __getnewargs__(self) -> Any:
        return (self.left,)


async def test_futures_of_scattered_values_have_their_shape(client: Client) -> None:
    for shape in (Pair(1, 2), Doubled(3), [1, 2], (1,), {"x": 1}):
        futures = await client.scatter(shape)
        assert type(futures) is type(shape)
        values = list(shape.values()) if isinstance(shape, dict) else list(shape)
        assert await client.gather(list(futures.values() if isinstance(futures, dict) else futures)) == values
    (one,) = futures_of(await client.scatter(type("Listed", (list,), {})([1, 2])))
    assert await one == [1, 2]


async def test_large_results_and_scatter(client: Client) -> None:
    array = np.arange(200_000)
    (future,) = await client.scatter([array])
    assert (await client.submit(np.sum, future)) == array.sum()
    assert (await future == array).all()
    assert (await client.gather(future, direct=False) == array).all()
    everywhere = await client.scatter({"x": array}, broadcast=True)
    assert len((await client.who_has([everywhere["x"]]))["x"]) == 2
    made = client.map(np.ones, [50_000, 50_001])
    assert [len(value) for value in await client.gather(made)] == [50_000, 50_001]
    through = await client.scatter([array + 1], direct=False)
    assert (await through[0] == array + 1).all()


async def test_graphs_and_collections(client: Client) -> None:
    da = pytest.importorskip("dask.array")
    dsk: dict[Any, Any] = {("x", i): (inc, i) for i in range(5000)}
    dsk["total"] = (sum, [("x", i) for i in range(5000)])
    assert await client.get(dsk, ["total", ("x", 3)]) == [12_502_500, 4]
    x = da.ones((20, 20), chunks=5) + 1
    kept = await client.persist(x)
    assert len(futures_of(kept)) == 16
    assert await client.compute((kept + kept.T).sum()) == 1600
    assert await client.compute([x.sum(), dask.delayed(inc)(1), 5])[1] == 2
    with pytest.raises(ValueError, match="Cycle"):
        client.get({"x": (inc, "y"), "y": (inc, "x")}, "x")
    assert await client.submit(inc, 1) == 2


async def test_released_keys_are_forgotten_by_the_scheduler(client: Client) -> None:
    future = client.submit(inc, 1)
    await future
    assert await client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 1
    del future
    gc.collect()
    for _ in range(200):
        if not await client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the task is still known")


async def test_cancel_and_submit_again(client: Client) -> None:
    for _ in range(5):
        future = client.submit(inc, 1)
        await future.cancel()
        assert future.cancelled()
        with pytest.raises(FutureCancelledError):
            await future
        assert await client.submit(inc, 1) == 2
    with pytest.raises(FutureCancelledError):
        await client.submit(inc, future).result(timeout=5)


@pytest.mark.slow
async def test_the_scheduler_is_described_at_once_and_brought_up_to_date(client: Client) -> None:
    known = client.scheduler_info()
    assert known["address"] == client.scheduler_info(n_workers=0)["address"]
    assert (await known)["workers"].keys() == (await client.scheduler_info())["workers"].keys()
    where = {"host": "127.0.0.1"} if known["address"].startswith("tcp") else {"protocol": "inproc"}
    async with Worker(known["address"], **where) as worker:
        await client.wait_for_workers(3)
        assert worker.address in client.scheduler_info()["workers"]
    async with asyncio.timeout(20):
        while worker.address in client.scheduler_info()["workers"]:
            await asyncio.sleep(0.01)
    assert len(client.scheduler_info(n_workers=1)["workers"]) == 1


async def test_notes_on_futures(client: Client) -> None:
    future = client.submit(inc, 1)
    future.label = "mine"  # as prefect does
    assert future.label == "mine"
    assert await client.submit(inc, future) == 3


async def test_clients_inside_tasks(client: Client) -> None:
    assert await client.submit(inner_sum, 10) == 55
    future = client.submit(inc, 1)
    await future
    assert await client.submit(Holder.key, Holder(future)) == future.key


async def test_two_clients_share_results(client: Client) -> None:
    first = client.submit(inc, 1)
    await first
    async with Client(client.scheduler.address, asynchronous=True, set_as_default=False) as other:
        second = other.submit(inc, 1)
        assert second.key == first.key
        assert await second == 2
        assert await other.submit(inc, first) == 3


async def test_questions(client: Client) -> None:
    future = client.submit(inc, 1)
    await future
    threads = await client.nthreads()
    assert sorted(threads.values()) == [1, 2]
    assert set(await client.has_what()) == set(threads)
    assert await client.run(lambda dask_worker: dask_worker.address) == {address: address for address in threads}
    with pytest.raises(ZeroDivisionError):
        await client.run(fail, 1)
    assert set((await client.run(fail, 1, on_error="ignore")).values()) == set()
    assert sum((await client.nbytes()).values()) > 0
    assert len((await client.scheduler_info())["workers"]) == 2
    await client.wait_for_workers(2, timeout=5)
    with pytest.raises(WorkerStartTimeoutError, match="Only 2/9 workers") as caught:
        await client.wait_for_workers(9, timeout="10ms")
    assert isinstance(caught.value, TimeoutError)
    await client.set_metadata(["a", "b"], 1)
    assert await client.get_metadata(["a", "b"]) == 1
    assert set(await client.get_versions(check=True)) == {"scheduler", "workers", "client"}
    found = await client.get_versions(packages=["no-such-package"])
    assert all("no-such-package" in each["packages"] for each in [found["scheduler"], *found["workers"].values()])
    assert await client.get_events("nothing") is not None


async def test_worker_restrictions(client: Client) -> None:
    addresses = list(await client.nthreads())
    future = client.submit(inc, 1, workers=addresses[0])
    await future
    assert await client.who_has([future]) == {future.key: (addresses[0],)}
    with dask.annotate(workers=[addresses[1]]):
        other = client.submit(inc, 2)
    await other
    assert await client.who_has([other]) == {other.key: (addresses[1],)}


def test_a_local_cluster(local: Client) -> None:
    assert local.submit(inc, 1).result() == 2
    assert local.gather(local.map(inc, range(100))) == list(range(1, 101))
    assert dask.delayed(inc)(1).compute() == 2
    assert sorted(result for _, result in as_completed(local.map(inc, range(5)), with_results=True)) == [1, 2, 3, 4, 5]
    assert local.submit(lambda: dask.delayed(inc)(5).compute()).result() == 6
    with pytest.raises(ZeroDivisionError):
        local.submit(fail, 1).result()


def test_a_client_that_starts_its_own_cluster() -> None:
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as client:
        assert client.cluster.scheduler is not None
        assert client.submit(inc, 1).result() == 2
    assert client.status == "closed"


def test_shutdown() -> None:
    client = Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)
    client.shutdown()
    assert client.status == "closed"


async def test_each_future_object_has_a_token_of_its_own(client: Client) -> None:
    first, second = client.submit(inc, 1), client.submit(inc, 1)
    assert first.key == second.key
    assert tokenize(first) == tokenize(first) != tokenize(second)
    assert client.submit(inc, first).key == client.submit(inc, second).key  # equal calls are run once all the same


async def test_a_large_closure_is_warned_of(client: Client) -> None:
    data = np.zeros(2_000_000)
    for work in (
        lambda: client.submit(lambda: data.sum()),
        lambda: client.map(lambda x: data.sum() + x, [1]),
        lambda: client.compute(dask.delayed(lambda: data.sum())()),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await client.gather(work())
        assert any("large graph" in str(one.message) for one in caught)


class Unpicklable:
    def __init__(self) -> None:
        self.lock = threading.Lock()


async def test_data_that_a_task_scatters_stay_with_it_as_they_are(client: Client) -> None:
    def scatter_here(**options: Any) -> bool:
        worker, value = get_worker(), Unpicklable()
        future = get_client().scatter(value, **options)
        return worker.data[future.key] is value and get_client().who_has(future) == {future.key: (worker.address,)}

    for options in ({}, {"direct": True}, {"direct": False}, {"hash": False}):
        assert await client.submit(scatter_here, **options, pure=False)


async def test_a_task_scatters_to_the_workers_that_it_names(client: Client) -> None:
    def scatter_to(address: str) -> bool:
        future = get_client().scatter(5, workers=[address])
        return get_client().who_has(future) == {future.key: (address,)}

    here, there = client.scheduler_info()["workers"]
    assert await client.submit(scatter_to, there, workers=here)


async def test_a_persisted_collection_that_is_scattered_can_be_computed_in_a_task(client: Client) -> None:
    persisted = client.persist(dask.delayed(sum)([dask.delayed(inc)(1), 5]))
    await wait(persisted)
    scattered = await client.scatter(Holder(persisted))
    assert await client.submit(lambda holder: holder.future.compute(), scattered) == 7


async def test_futures_of_another_client_are_not_gathered(client: Client) -> None:
    async with Client(client.scheduler.address, asynchronous=True, set_as_default=False) as other:
        future = other.submit(inc, 1)
        if client.session.in_process:
            assert await client.gather(future) == 2
        else:
            with pytest.raises(ValueError, match="1 of 1 futures are of another client"):
                await client.gather({"x": [future]})
        assert await client.submit(inc, future) == 3


async def test_libraries_await_what_becomes_of_a_future(client: Client) -> None:
    done, failed, cancelled = client.submit(inc, 1), client.submit(fail, 2), client.submit(inc, 3)
    await cancelled.cancel()
    assert await done._result() == 2
    assert (await done._exception(), await done._traceback()) == (None, None)
    with pytest.raises(ZeroDivisionError):
        await failed._result()
    kind, error, trace = await failed._result(raiseit=False)
    assert kind is ZeroDivisionError
    assert isinstance(error, kind)
    assert trace is not None
    assert type(await failed._exception()) is kind
    assert await failed._traceback() is not None
    assert isinstance(await cancelled._result(raiseit=False), FutureCancelledError)


@pytest.mark.parametrize("how", ["no", 2])
async def test_whether_others_may_run_a_task_is_yes_or_no(client: Client, how: Any) -> None:
    here = next(iter(client.scheduler_info()["workers"]))
    for work in (
        lambda: client.submit(inc, 1, workers=here, allow_other_workers=how),
        lambda: client.map(inc, [1], workers=here, allow_other_workers=how),
        lambda: client.compute(dask.delayed(inc)(1), workers=here, allow_other_workers=how),
    ):
        with pytest.raises(TypeError, match="must be True or False"):
            work()


async def test_a_task_gathers_what_its_worker_has_as_it_is(client: Client) -> None:
    def gather(large: bytes) -> tuple[bool, bool]:
        here = get_client()
        value = Unpicklable()
        future = here.scatter(value)
        elsewhere = here.submit(bytes, 20_000, pure=False)
        return here.gather(future) is value, here.gather([future, elsewhere]) == [value, bytes(20_000)]

    async def gather_too() -> bool:
        here = get_client()
        value = Unpicklable()
        (future,) = await here.scatter([value])
        return (await here.gather([future]))[0] is value

    for address in client.scheduler_info()["workers"]:
        assert await client.submit(gather, bytes(10), workers=address, pure=False) == (True, True)
        assert await client.submit(gather_too, workers=address, pure=False)
