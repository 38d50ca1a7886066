"""Published datasets: stored, listed, fetched by other clients, replaced and removed."""

from __future__ import annotations

from typing import Any

import dask.bag
import pytest

from headrace import Client, get_client, worker_client
from headrace.client.api.datasets_mapping import Datasets
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import poll_for
from headrace.testing.helpers.sample_functions import inc


@pytest.fixture(autouse=True)
def unpublish(client: Client) -> Any:
    yield
    client.unpublish_dataset(list(client.list_datasets()))


def test_ways_to_name_a_dataset(client: Client) -> None:
    bag = dask.bag.range(4, npartitions=2).persist()
    future = client.submit(inc, 1)
    assert client.publish_dataset() is None
    client.publish_dataset(bag=bag, number=3)
    client.publish_dataset(future, name=("part", 1))
    client.publish_dataset(future, bag, name=5)
    client.publish_dataset({"one": future, b"two": [future, {"x": bag}]})
    client.publish_dataset({"inside": 1}, name="mapping", beside=2)
    assert client.list_datasets() == (("part", 1), 5, b"two", "bag", "beside", "mapping", "number", "one")
    assert client.get_dataset("bag").sum().compute() == 6
    assert client.get_dataset("number") == 3
    assert client.get_dataset(("part", 1)).result() == 2
    assert client.get_dataset(5)[1].compute() == [0, 1, 2, 3]
    assert client.get_dataset("mapping") == {"inside": 1}
    first, second = client.get_dataset(["one", b"two"])
    assert first.result() == second[0].result() == 2
    assert second[1]["x"].compute() == [0, 1, 2, 3]


def test_bad_calls_are_named(client: Client) -> None:
    with pytest.raises(ValueError, match="positional argument must be a"):
        client.publish_dataset(1)
    with pytest.raises(ValueError, match="positional argument must be a"):
        client.publish_dataset({"a": 1}, {"b": 1})
    with pytest.raises(ValueError, match="expecting call signature"):
        client.publish_dataset(name="empty")
    assert client.list_datasets() == ()


def test_what_is_there_is_replaced_only_on_purpose(client: Client) -> None:
    client.publish_dataset(x=1)
    with pytest.raises(KeyError, match="x already exists"):
        client.publish_dataset(x=2, y=2)
    assert client.list_datasets() == ("x",)  # all or none
    client.publish_dataset(x=2, y=2, override=True)
    assert client.get_dataset(["x", "y"]) == [2, 2]


def test_what_is_not_there(client: Client) -> None:
    with pytest.raises(KeyError, match="Dataset 'z' not found"):
        client.get_dataset("z")
    with pytest.raises(KeyError, match="not found"):
        client.get_dataset(["z", "y"])
    assert client.get_dataset("z", default=None) is None
    client.publish_dataset(x=1)
    assert client.get_dataset(["x", "z"], default=0) == [1, 0]
    client.unpublish_dataset("z")
    client.unpublish_dataset(["x", "z"])
    assert client.list_datasets() == ()


def test_futures_outlive_the_client_that_published_them(client: Client) -> None:
    scheduler = client.cluster.scheduler
    with Client(client.cluster, set_as_default=False) as other:
        other.publish_dataset(kept=other.submit(inc, 1, key="kept"))
    assert "kept" in scheduler.tasks
    future = client.get_dataset("kept")
    assert future.result() == 2
    client.unpublish_dataset("kept")
    assert future.result() == 2
    assert "kept" in scheduler.tasks
    del future
    poll_for(lambda: "kept" not in scheduler.tasks, timeout=10)
    assert not scheduler.extensions["keeping"].keepers


def test_what_replaces_a_dataset_may_be_the_same_task(client: Client) -> None:
    client.publish_dataset(same=client.submit(inc, 1, key="same"))
    client.publish_dataset(same=client.get_dataset("same"), override=True)
    assert client.get_dataset("same").result() == 2


def test_what_is_not_computed_stays_so(client: Client) -> None:
    client.publish_dataset(lazy=dask.delayed(inc)(1))
    lazy = client.get_dataset("lazy")
    assert not client.futures_of(lazy)
    assert lazy.compute() == 2


def test_the_mapping(client: Client) -> None:
    datasets = client.datasets
    assert isinstance(datasets, Datasets)
    datasets["x"] = 1
    with pytest.raises(KeyError, match="already exists"):
        datasets["x"] = 2
    assert datasets["x"] == 1
    assert "x" in datasets
    assert dict(datasets) == {"x": 1}
    assert len(datasets) == 1
    del datasets["x"]
    del datasets["x"]
    assert list(datasets) == []
    with pytest.raises(KeyError, match="not found"):
        datasets["x"]
    with pytest.raises(TypeError, match="synchronous"):
        aiter(datasets)


def test_tasks_use_them(client: Client) -> None:
    def publish() -> int:
        with worker_client() as inner:
            inner.publish_dataset(by_task=inner.submit(inc, 1))
            return len(inner.list_datasets())

    def read(_: int) -> int:
        return int(get_client().get_dataset("by_task").result())

    assert client.submit(publish).result() == 1
    assert client.gather(client.map(read, range(3))) == [2, 2, 2]


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_asynchronously(c: Any, s: Any, a: Any) -> None:
    await c.publish_dataset(c.submit(inc, 1), name="x")
    assert await c.list_datasets() == ("x",)
    assert await (await c.get_dataset("x")) == 2
    assert await (await c.datasets["x"]) == 2
    assert [name async for name in c.datasets] == ["x"]
    for misuse in (iter, len, lambda datasets: "x" in datasets):
        with pytest.raises(TypeError, match=r"asynchronous|await"):
            misuse(c.datasets)
    with pytest.raises(TypeError, match="publish_dataset"):
        c.datasets["y"] = 1
    with pytest.raises(TypeError, match="unpublish_dataset"):
        del c.datasets["x"]
    await c.unpublish_dataset("x")
    assert await c.list_datasets() == ()
