"""dask-databricks: its cluster, which is a scheduler at the default port of the driver's machine."""

import os
import sys
from importlib import import_module

from dask.distributed import LocalCluster

if __name__ == "__main__":
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    databricks = import_module("dask_databricks")
    try:
        machine = LocalCluster(n_workers=1, threads_per_worker=1, scheduler_port=8786, dashboard_address=None)
    except OSError:
        sys.exit(0)  # somebody else has the port
    with machine, databricks.get_client() as client:
        assert client.submit(sum, [1, 2]).result() == 3
        assert client.cluster.name.startswith("unknown-databricks-")
