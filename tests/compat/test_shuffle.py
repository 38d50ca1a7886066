"""Shuffles and rechunks on a cluster: cut into tasks, also where dask would choose p2p; else a clear word."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace import Client, LocalCluster

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("method", ["p2p", "tasks", None])
def test_rechunk(client: Client, method: str | None) -> None:
    values = np.arange(100.0).reshape(10, 10)
    array = da.from_array(values, chunks=(10, 1)).rechunk((1, 10), method=method)
    assert array.chunks == ((1,) * 10, (10,))
    assert (array.compute() == values).all()


def test_shuffle_by_default(client: Client) -> None:
    frame = pd.DataFrame({"x": range(20), "y": [1, 2] * 10})
    shuffled = dd.from_pandas(frame, npartitions=4).shuffle("y")
    assert sorted(shuffled.compute().x) == list(range(20))
    parts = client.gather(client.compute(shuffled.to_delayed()))
    assert all(set(part.y) <= {1} or set(part.y) <= {2} for part in parts if len(part))


def test_p2p_by_name_says_what_to_use(client: Client) -> None:
    frame = dd.from_pandas(pd.DataFrame({"x": range(4)}), npartitions=2)
    with pytest.raises(ImportError, match="tasks"):
        frame.shuffle("x", shuffle_method="p2p").compute()


def test_collections_inside_delayed_calls(client: Client) -> None:
    from dask import delayed

    values = da.ones((4, 4), chunks=2)
    assert delayed(np.sum)(values).compute() == 16
