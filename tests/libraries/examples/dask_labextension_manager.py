"""dask-labextension: the manager behind JupyterLab's panel starts, scales and closes clusters."""

import asyncio

import dask
from dask.distributed import Client
from dask_labextension.manager import DaskClusterManager

dask.config.set({"labextension.factory.kwargs": {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}})


async def manage():
    async with DaskClusterManager() as manager:
        model = await manager.start_cluster()
        assert [one["id"] for one in manager.list_clusters()] == [model["id"]]
        async with Client(model["scheduler_address"], asynchronous=True) as client:
            await client.wait_for_workers(1, timeout=60)
            assert await client.submit(sum, [1, 2]) == 3
            await manager.scale_cluster(model["id"], 2)
            await client.wait_for_workers(2, timeout=60)
        model = manager.get_cluster(model["id"])
        assert model["workers"] == 2
        assert model["cores"] == 2
        adapted = manager.adapt_cluster(model["id"], 1, 2)
        assert adapted["adapt"] == {"minimum": 1, "maximum": 2}
        await manager.close_cluster(model["id"])
        assert manager.list_clusters() == []


if __name__ == "__main__":
    asyncio.run(manage())
