"""dask-kubernetes without Kubernetes: a worker as it specifies it, and what its controller asks, by HTTP and RPC."""

import asyncio
import logging
import os
import subprocess
import sys

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from dask.distributed import Client, Scheduler
from dask_kubernetes.operator import make_cluster_spec
from dask_kubernetes.operator.controller import controller


async def operate(scheduler, interface):
    async def scheduler_address(service, namespace, port_name="tcp-comm", allow_external=True):
        return scheduler.address if port_name == "tcp-comm" else interface

    controller.get_scheduler_address = scheduler_address  # it would ask Kubernetes
    spec = make_cluster_spec("example", n_workers=2, worker_command=["dask", "worker"], env={"SOME": "variable"})
    deployment = controller.build_worker_deployment_spec(
        "group", "default", "example", "one", spec["spec"]["worker"]["spec"], {}, {}
    )
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert variables["SOME"] == "variable"
    arguments = [
        {"$(DASK_WORKER_NAME)": variables["DASK_WORKER_NAME"]}.get(argument, argument) for argument in container["args"]
    ]
    worker = subprocess.Popen(
        [sys.executable, "-m", *arguments, "--dashboard", "--dashboard-address", "0", "--nthreads", "1"],
        env={**os.environ, **variables, "DASK_SCHEDULER_ADDRESS": scheduler.address},
    )
    try:
        async with Client(scheduler.address, asynchronous=True) as client:
            await client.wait_for_workers(1, timeout=60)
            assert await client.submit(sum, [1, 2]) == 3
            [info] = client.scheduler_info()["workers"].values()
            assert info["name"] == variables["DASK_WORKER_NAME"]
        assert await controller.get_desired_workers("example", "default") >= 0
        while scheduler.check_idle() is None:  # the controller cannot read that
            await asyncio.sleep(0.05)
        assert await controller.check_scheduler_idle("example", "default", logging.getLogger()) > 0
        retired = await controller.retire_workers(1, "example", "group", "default", logging.getLogger())
        assert retired == [variables["DASK_WORKER_NAME"]]
        while worker.poll() is None:
            await asyncio.sleep(0.1)
    finally:
        if worker.poll() is None:
            worker.terminate()
        worker.wait(60)


async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address=":0") as scheduler:
        interface = f"http://127.0.0.1:{scheduler.http_server.port}"
        async with aiohttp.ClientSession() as session, session.get(f"{interface}/health") as probe:
            assert (probe.status, await probe.text()) == (200, "ok")
        await asyncio.wait_for(operate(scheduler, interface), 60)
    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard_address=None) as scheduler,
        TestServer(web.Application()) as without_interface,  # the controller asks by HTTP first
    ):
        await asyncio.wait_for(operate(scheduler, f"http://127.0.0.1:{without_interface.port}"), 60)


if __name__ == "__main__":
    asyncio.run(main())
