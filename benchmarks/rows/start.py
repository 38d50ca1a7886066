"""A LocalCluster of two workers and a client, until both workers are there."""

from __future__ import annotations

import time
from typing import Any


def run(session: Any) -> dict[str, float]:
    from distributed import Client, LocalCluster

    times = []
    for _ in range(1 if session.quick else 3):
        begin = time.perf_counter()
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            client.wait_for_workers(2)
            times.append(time.perf_counter() - begin)
    return {"seconds": min(times)}
