"""20 k tasks of 1 ms on four workers, of which one is killed in the middle: what that costs beyond its share.

Its share, when three workers go on and nobody replaces it: a quarter of what was done is done again, and from then on
everything takes 4/3 of the time; together a third of the undisturbed time.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

WORKERS = 4


def wait_a_little(value: int) -> int:
    time.sleep(0.001)
    return value


def run(session: Any) -> dict[str, float]:
    from distributed import Client, LocalCluster

    count = session.size(20_000)
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(WORKERS)
        client.gather(client.map(abs, range(100)))
        undisturbed = _work(client, range(count), None)
        disturbed = _work(client, range(count, 2 * count), undisturbed / 2)
    share = undisturbed / 3
    return {
        "seconds": undisturbed,
        "with_loss": disturbed,
        "beyond_share": disturbed - undisturbed - share,
    }


def _work(client: Any, values: range, kill_after: float | None) -> float:
    pids = list(client.run(os.getpid).values())
    begin = time.perf_counter()
    futures = client.map(wait_a_little, values)
    if kill_after is not None:
        time.sleep(max(0.0, begin + kill_after - time.perf_counter()))
        os.kill(pids[0], signal.SIGKILL)
    results = client.gather(futures)
    took = time.perf_counter() - begin
    assert results == list(values)
    return took
