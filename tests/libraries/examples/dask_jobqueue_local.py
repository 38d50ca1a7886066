"""dask-jobqueue with jobs that are processes of this machine: scaling by jobs, adapting, job scripts."""

import os

from dask.distributed import Client
from dask_jobqueue.local import LocalCluster

if __name__ == "__main__":
    with LocalCluster(cores=1, memory="1GB", interface="lo") as cluster:
        assert "distributed.cli.dask_worker" in cluster.job_script()
        cluster.scale(jobs=2)
        with Client(cluster) as client:
            client.wait_for_workers(2, timeout=60)
            assert len(set(client.run(os.getpid).values()) - {os.getpid()}) == 2
            assert sum(client.gather(client.map(abs, range(-99, 1)))) == 99 * 50
            cluster.adapt(minimum=1, maximum=2)
            assert client.submit(abs, -10).result() == 10
