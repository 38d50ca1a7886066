"""1,000 tasks of 10 ms that all start on one of four workers, until all are done; evenly spread they take 2.5 s.

They prefer that worker (a restriction that others may ignore), which is what puts them all there to begin with.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

WORKERS = 4
SECONDS = 0.01


def wait_a_little(value: int) -> int:
    time.sleep(SECONDS)
    return value


def run(session: Any) -> dict[str, float]:
    from distributed import Client, LocalCluster

    count = session.size(1_000)
    ideal = count * SECONDS / WORKERS
    times = []
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(WORKERS)
        client.gather(client.map(abs, range(100)))
        first = next(iter(client.scheduler_info()["workers"]))
        for repetition in range(1 if session.side == "peer" else 3):
            values = range(repetition * count, (repetition + 1) * count)
            begin = time.perf_counter()
            futures = client.map(wait_a_little, values, workers=[first], allow_other_workers=True)
            results = client.gather(futures)
            times.append(time.perf_counter() - begin)
            assert results == list(values)
            del futures
    return {"seconds": median(times), "times_ideal": median(times) / ideal, "worst_times_ideal": max(times) / ideal}
