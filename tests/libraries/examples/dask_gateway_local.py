"""dask-gateway: a gateway of this machine starts a cluster, which its client scales and uses through the proxy."""

import asyncio
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile

import aiohttp
from dask_gateway import Gateway

CONFIGURATION = """
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.address = "127.0.0.1:{server}"
c.Proxy.address = "127.0.0.1:{proxy}"
c.UnsafeLocalBackend.clusters_directory = {folder!r}
c.ClusterConfig.worker_cores = 1
c.ClusterConfig.scheduler_cmd = [{python!r}, "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = [{python!r}, "-m", "distributed.cli.dask_worker"]
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


async def use(address):
    async with Gateway(address, asynchronous=True) as gateway:
        while True:
            try:
                assert await gateway.list_clusters() == []
                break
            except (aiohttp.ClientError, OSError, ValueError):  # the gateway is still starting
                await asyncio.sleep(0.2)
        async with gateway.new_cluster() as cluster:
            await cluster.scale(2)
            async with cluster.get_client(set_as_default=False) as client:
                await client.wait_for_workers(2, timeout=100)
                assert await client.submit(sum, [1, 2]) == 3
                assert len(set((await client.run(os.getpid)).values())) == 2
                async with aiohttp.ClientSession() as session, session.get(cluster.dashboard_link) as page:
                    assert page.status == 200, page  # by way of the gateway's proxy, which knows it by another path
                    assert "<html" in await page.text()
                await cluster.adapt(minimum=1, maximum=2)
                assert sum(await client.gather(client.map(abs, range(-9, 1)))) == 45
        assert await gateway.list_clusters() == []


if __name__ == "__main__":
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        with open("gateway.py", "w") as file:
            file.write(CONFIGURATION.format(server=free_port(), proxy=port, folder=folder, python=sys.executable))
        server = subprocess.Popen(
            [os.path.join(sysconfig.get_path("scripts"), "dask-gateway-server"), "-f", "gateway.py"],
        )
        try:
            asyncio.run(asyncio.wait_for(use(f"http://127.0.0.1:{port}"), 200))
        finally:
            server.terminate()
            server.wait(30)
