"""Importing this package changes nothing of what dask does by itself; a client in force does, as long as it is."""

from __future__ import annotations

import subprocess
import sys

import dask
import dask.config
import pytest

from headrace import Client, LocalCluster, Scheduler
from headrace.nanny.environment import inherited_configuration
from headrace.testing.clusters import gen_cluster

pytest.importorskip("dask.dataframe")
SHUFFLE, RECHUNK = "dataframe.shuffle.method", "array.rechunk.method"


def in_force() -> tuple[object, ...]:
    return tuple(dask.config.get(name, None) for name in ("scheduler", SHUFFLE, RECHUNK))


NONE = (None, None, None)
TOLD = ("dask.distributed", "tasks", "tasks")


def test_imports_leave_dask_as_it_is() -> None:
    code = """
import copy, dask, dask.base, dask.sizeof, dask.utils
from dask.config import config
def seen():
    others = {name: value for name, value in config.items() if name != "distributed"}
    return copy.deepcopy((others, dask.utils.get_default_shuffle_method(), dask.base.get_scheduler(),
        set(dask.sizeof.sizeof._lookup), set(dask.base.normalize_token._lookup), dask.base.named_schedulers))
before = seen()
import headrace, headrace.compat.config, distributed, dask.distributed
from distributed import *
from distributed import Client, LocalCluster, Nanny, Scheduler, Worker, as_completed
import distributed.utils_test
assert config["distributed"]
assert seen() == before, (seen(), before)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


async def client_of(scheduler: Scheduler, **keywords: object) -> Client:
    return await Client(scheduler.address, asynchronous=True, **keywords)  # type: ignore[arg-type]


@gen_cluster(nthreads=[])
async def test_from_the_first_client_to_the_last(s: Scheduler) -> None:
    assert in_force() == NONE
    first, second = await client_of(s), await client_of(s)
    assert in_force() == TOLD
    await first.close()  # not in the order of their making
    assert in_force() == TOLD
    await second.close()
    assert in_force() == NONE
    assert dask.utils.get_default_shuffle_method() == "disk"


@gen_cluster(nthreads=[])
async def test_a_client_that_is_no_default(s: Scheduler) -> None:
    client = await client_of(s, set_as_default=False)
    assert in_force() == NONE
    with client.as_current():
        assert in_force() == TOLD
    assert in_force() == NONE
    await client.close()


@gen_cluster(nthreads=[])
async def test_the_user_decides_how_to_shuffle(s: Scheduler) -> None:
    with dask.config.set({SHUFFLE: "disk", "scheduler": "threads"}):
        client = await client_of(s)
        assert in_force() == ("dask.distributed", "disk", "tasks")
        await client.close()
        assert in_force() == ("threads", "disk", None)
    client = await client_of(s)
    with dask.config.set({SHUFFLE: "disk"}):
        assert in_force() == ("dask.distributed", "disk", "tasks")
    dask.config.set({RECHUNK: "p2p"})
    await client.close()
    assert in_force() == (None, None, "p2p"), "what was set meanwhile is not taken away"
    dask.config.config["array"]["rechunk"].pop("method")


def test_tasks_of_workers_shuffle_as_their_client_does() -> None:
    assert '"tasks"' not in str(in_force())
    assert dask.config.deserialize(inherited_configuration())["dataframe"]["shuffle"]["method"] == "tasks"
    with dask.config.set({SHUFFLE: "disk"}):
        assert dask.config.deserialize(inherited_configuration())["dataframe"]["shuffle"]["method"] == "disk"

    def chosen() -> tuple[str, str]:
        import dask.utils

        return dask.utils.get_default_shuffle_method(), dask.config.get("array.rechunk.method")

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert client.submit(chosen).result() == ("tasks", "tasks")
        assert in_force() == NONE


def test_collections_for_a_client_that_is_no_default() -> None:
    import dask.dataframe as dd
    import pandas as pd

    frame = dd.from_pandas(pd.DataFrame({"x": range(20), "y": [1, 2] * 10}), npartitions=4).shuffle("y")
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        future = client.compute(frame)
        names = {str(key) for key in cluster.scheduler.tasks}
        kept = client.persist(frame)
        names |= {str(key) for key in cluster.scheduler.tasks}
        del future, kept
    assert len(names) > 4
    assert not any("disk" in name or "partd" in name for name in names), names
