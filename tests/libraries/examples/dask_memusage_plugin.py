"""dask-memusage: a plugin of the scheduler that writes the memory of tasks into a file."""

import csv
import time

from dask.distributed import Client, LocalCluster
from dask_memusage import install


def hold(number):
    data = b"1" * 50_000_000
    time.sleep(0.3)
    return len(data) + number


if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        install(cluster.scheduler, "memory.csv")
        with Client(cluster) as client:
            peaks = [0.0]
            number = 0
            while max(peaks) == 0:  # it begins to measure some time after it was installed
                assert client.submit(hold, number).result() == 50_000_000 + number
                number += 1
                with open("memory.csv") as file:
                    rows = list(csv.DictReader(file))
                peaks = [float(row["max_memory_mb"]) for row in rows] or [0.0]
    assert set(rows[0]) == {"task_key", "min_memory_mb", "max_memory_mb"}
    assert rows[0]["task_key"].startswith("hold")
