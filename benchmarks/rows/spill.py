"""A sort of twice a worker's memory limit: how long it takes, how near the limit it comes, how long the loop stalls.

One worker with two threads sorts by distribution: numbers are split by range, the pieces of each range are put together
and sorted. Its process samples its own memory and the largest gap between two beats of its event loop.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

LIMIT = 600_000_000
CHUNKS, RANGES = 96, 24


def generate(seed: int, count: int) -> Any:
    import numpy as np

    return np.random.default_rng(seed).random(count)


def split(numbers: Any, ranges: int) -> list[Any]:
    import numpy as np

    which = (numbers * ranges).astype("i2")
    return [np.ascontiguousarray(numbers[which == position]) for position in range(ranges)]


def piece(pieces: list[Any], position: int) -> Any:
    return pieces[position].copy()


def merge(pieces: list[Any]) -> Any:
    import numpy as np

    numbers = np.concatenate(pieces)
    numbers.sort()
    return numbers


def check(numbers: Any) -> tuple[int, float, float, bool]:
    import numpy as np

    return len(numbers), float(numbers[0]), float(numbers[-1]), bool((np.diff(numbers) >= 0).all())


def watch(dask_worker: Any) -> None:
    """Sample memory in a thread, and the loop by a task that should run every 5 ms."""
    import asyncio
    import threading

    import psutil

    seen = dask_worker.seen = {"memory": 0.0, "stall": 0.0}
    process = psutil.Process()

    def sample() -> None:
        while True:
            seen["memory"] = max(seen["memory"], process.memory_info().rss)
            time.sleep(0.005)

    async def beat() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            seen["stall"] = max(seen["stall"], now - last - 0.005)
            last = now

    threading.Thread(target=sample, daemon=True).start()
    dask_worker.beat = asyncio.ensure_future(beat())


def seen(dask_worker: Any) -> dict[str, float]:
    return dict(dask_worker.seen)


def run(session: Any) -> dict[str, float]:
    from distributed import Client, LocalCluster

    limit = LIMIT
    chunks = CHUNKS // 4 if session.quick else CHUNKS
    count = 2 * limit // 8 // CHUNKS
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, memory_limit=limit, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(watch)
        begin = time.perf_counter()
        merged = sort(client, chunks, count)
        checked = client.gather(client.map(check, merged))
        seconds = time.perf_counter() - begin
        (figures,) = client.run(seen).values()
    assert sum(length for length, *_ in checked) == chunks * count
    assert all(ordered for *_, ordered in checked)
    assert all(first[2] <= second[1] for first, second in pairwise(checked))
    return {
        "seconds": seconds,
        "stall_ms": 1000 * figures["stall"],
        "memory_to_limit": figures["memory"] / limit,
    }


def sort(client: Any, chunks: int, count: int) -> list[Any]:
    """Futures of the sorted ranges, smallest first."""
    numbers = [client.submit(generate, seed, count) for seed in range(chunks)]
    splits = [client.submit(split, chunk, RANGES) for chunk in numbers]
    del numbers
    columns = [[client.submit(piece, pieces, position) for pieces in splits] for position in range(RANGES)]
    del splits
    return [client.submit(merge, column) for column in columns]
