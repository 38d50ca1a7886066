"""dask-cloudprovider: its VMCluster, with machines that are processes of this one."""

import asyncio
import os
import signal
import socket
import sysconfig

from dask.distributed import Client
from dask_cloudprovider.generic.vmcluster import SchedulerMixin, VMCluster, VMInterface, WorkerMixin

#: The interpreter that the machines call `python` is this one.
SCRIPTS = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])


class ProcessMachine(VMInterface):
    def __init__(self, cluster=None, env_vars=None, protocol=None, **kwargs):
        self.cluster = cluster
        super().__init__(**kwargs)
        self.cluster = cluster

    async def create_vm(self):
        self.process = await asyncio.create_subprocess_shell(
            self.command.replace("''", "'"), start_new_session=True, env={**os.environ, "PATH": SCRIPTS}
        )
        return "127.0.0.1", None

    async def destroy_vm(self):
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        await self.process.wait()


class ProcessScheduler(SchedulerMixin, ProcessMachine):
    pass


class ProcessWorker(WorkerMixin, ProcessMachine):
    pass


class ProcessCluster(VMCluster):
    scheduler_class = ProcessScheduler
    worker_class = ProcessWorker

    def __init__(self, **kwargs):
        self.scheduler_options = {"cluster": self}
        self.worker_options = {"cluster": self}
        super().__init__(**kwargs)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    with (
        ProcessCluster(
            n_workers=1,
            security=False,
            scheduler_options={"port": free_port(), "host": "127.0.0.1", "dashboard_address": ":0"},
            worker_options={"nthreads": 1},
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(1, timeout=60)
        assert client.submit(sum, [1, 2]).result() == 3
        cluster.scale(2)
        client.wait_for_workers(2, timeout=60)
        assert len(set(client.run(os.getpid).values())) == 2
        assert any("Scheduler is running" in text for text in cluster.get_logs()["Cluster"].split("\n"))
        cluster.scale(1)
        assert client.submit(sum, [1, 3]).result() == 4
