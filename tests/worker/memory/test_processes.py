"""Real workers with little memory: they finish what does not fit, stay below their limit, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from headrace.client import Client, wait
from headrace.deploy import LocalCluster
from headrace.scheduler import MemoryState
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import poll_for

MB = 1_000_000


def start(limit: int, directory: Path, **options: Any) -> LocalCluster:
    return LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        memory_limit=limit,
        local_directory=str(directory),
        host="127.0.0.1",
        dashboard_address=None,
        **options,
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_sort_of_twice_the_limit(tmp_path: Path) -> None:
    limit, chunks, ranges = 240 * MB, 64, 16
    count = 2 * limit // 8 // chunks

    def generate(seed: int) -> Any:
        import numpy as np

        return np.random.default_rng(seed).random(count)

    def split(numbers: Any) -> list[Any]:
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

    def check(numbers: Any) -> tuple[int, float, float, bool, float]:
        import numpy as np

        ordered = bool((np.diff(numbers) >= 0).all())
        return len(numbers), float(numbers[0]), float(numbers[-1]), ordered, float(numbers.sum())

    def watch(dask_worker: Any) -> None:
        import threading
        import time

        import psutil

        process = psutil.Process()
        dask_worker.highest = 0

        def sample() -> None:
            while True:
                dask_worker.highest = max(dask_worker.highest, process.memory_info().rss)
                time.sleep(0.005)

        threading.Thread(target=sample, daemon=True).start()

    with start(limit, tmp_path) as cluster, Client(cluster) as client:
        client.run(watch)
        (pid,) = client.run(lambda: __import__("os").getpid()).values()
        splits = [client.submit(split, numbers) for numbers in client.map(generate, range(chunks))]
        columns = [[client.submit(piece, pieces, position) for pieces in splits] for position in range(ranges)]
        del splits
        merged = [client.submit(merge, column) for column in columns]
        del columns
        found = client.gather(client.map(check, merged))
        assert sum(length for length, *_ in found) == chunks * count
        assert all(ordered for *_, ordered, _ in found)
        assert all(before[2] <= after[1] for before, after in pairwise(found))
        expected = sum(float(generate(seed).sum()) for seed in range(chunks))
        assert sum(total for *_, total in found) == pytest.approx(expected)
        (highest,) = client.run(lambda dask_worker: dask_worker.highest).values()
        assert highest < limit
        assert client.run(lambda: __import__("os").getpid()) == dict.fromkeys(client.run(lambda: 0), pid)
        (spilled,) = client.run(lambda dask_worker: dask_worker.data.spilled_total.memory).values()
        assert spilled > limit // 2
        storage = next(tmp_path.glob("worker-*/storage"))
        assert list(storage.iterdir())
        del merged
        poll_for(lambda: not list(storage.iterdir()))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    def forbid() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    def allow() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def data(number: int) -> bytes:
        import os

        return bytes([number]) + os.urandom(MB - 1)

    def spilled(dask_worker: Any) -> int:
        return len(dask_worker.data.disk)

    with start(1000 * MB, tmp_path, memory_target_fraction=0.01) as cluster, Client(cluster) as client:
        client.run(forbid)
        futures = client.map(data, range(30))
        wait(futures)
        assert client.gather(client.map(lambda value: value[0], futures)) == list(range(30))
        assert list(client.run(spilled).values()) == [0]
        (logs,) = client.get_worker_logs().values()
        assert sum("Spilling to disk failed" in str(line) for line in logs) == 1
        assert not list(next(tmp_path.glob("worker-*/storage")).iterdir())
        client.run(allow)
        poll_for(lambda: list(client.run(spilled).values()) == [20])
        assert [value[0] for value in client.gather(futures)] == list(range(30))


ON_DISK = {
    "memory_limit": "10 MB",
    "memory_target_fraction": 0.001,
    "memory_spill_fraction": False,
    "memory_pause_fraction": False,
}


@pytest.mark.slow
@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)] * 2, worker_kwargs=ON_DISK)
async def test_what_is_lost_on_disk_is_computed_again(c: Any, s: Any, a: Any, b: Any) -> None:
    made = [c.submit(bytes, MB, key=f"made-{number}", workers=[a.address]) for number in range(3)]
    await wait(made)
    async with asyncio.timeout(20):
        while len(a.data.disk) < 3:
            await asyncio.sleep(0.01)
    for key in list(a.data.disk):
        os.unlink(a.data._files[key].path)
    here = c.submit(len, made[0], workers=[a.address])
    there = c.submit(len, made[1], workers=[b.address])
    assert await asyncio.wait_for(c.gather([here, there]), 20) == [MB, MB]
    assert len(await asyncio.wait_for(c.gather(made[2]), 20)) == MB


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], worker_kwargs=ON_DISK)
async def test_reading_from_disk_is_accounted_for(c: Any, s: Any, a: Any) -> None:
    made = c.submit(bytes, MB, key="made")
    await made
    async with asyncio.timeout(20):
        while not a.data.disk:
            await asyncio.sleep(0.01)
    future = c.submit(len, made, key="used")
    assert await future == MB
    load, compute = a.state.tasks["used"].startstops
    assert [load["action"], compute["action"]] == ["load", "compute"]
    assert load["start"] <= load["stop"] <= compute["start"] <= compute["stop"]
    assert set(s.tasks["used"].group.all_durations) == {"load", "compute"}


@pytest.mark.slow
@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)] * 2, worker_kwargs={"memory_limit": "10 GB"})
async def test_a_paused_worker_gets_no_tasks(c: Any, s: Any, a: Any, b: Any) -> None:
    a.memory_manager.memory_pause_fraction, a.memory_manager.memory_spill_fraction = 1e-6, False
    async with asyncio.timeout(20):
        while s.workers[a.address].status.name != "paused":
            await asyncio.sleep(0.01)
        futures = c.map(lambda number: number + 1, range(100), pure=False)
        restricted = c.submit(lambda: "here", workers=[a.address], pure=False)
        assert await c.gather(futures) == list(range(1, 101))
        assert {future.key for future in futures} <= b.state.tasks.keys()
        assert not a.data
        assert restricted.status == "pending"
        a.memory_manager.memory_pause_fraction = 0.8
        assert await restricted == "here"
        assert s.workers[a.address].status.name == "running"


@gen_cluster(
    client=True,
    nthreads=[("127.0.0.1", 1)],
    worker_kwargs={"memory_limit": "10 MB", "memory_spill_fraction": False, "memory_pause_fraction": False},
    config={
        "distributed.worker.memory.recent-to-old-time": "50ms",
        "distributed.worker.memory.spill-compression": None,
    },
)
async def test_memory_is_reported_by_kind(c: Any, s: Any, a: Any) -> None:
    futures = c.map(lambda number: bytes([number]) * MB, range(10))
    await wait(futures)
    worker = s.workers[a.address]
    async with asyncio.timeout(20):
        while worker.memory.spilled < 4 * MB:
            await asyncio.sleep(0.01)
    memory = worker.memory
    assert isinstance(memory, MemoryState)
    assert memory.managed == memory.managed_in_memory == 6 * MB
    assert 4 * MB < memory.spilled < 4.1 * MB
    assert memory.managed_total == memory.managed + memory.managed_spilled
    assert memory.process == worker.metrics["memory"] == memory.managed + memory.unmanaged
    assert memory.unmanaged == memory.unmanaged_old + memory.unmanaged_recent
    assert memory.optimistic == memory.managed + memory.unmanaged_old
    assert worker.metrics["spilled_bytes"] == {"memory": 4 * MB, "disk": memory.spilled}
    assert s.memory == memory
    assert "Spilled to disk" in repr(s.memory)
    assert worker.nbytes == 10 * MB
    shown = (await c.scheduler_info())["workers"][a.address]["metrics"]
    assert {"memory", "spilled_bytes", "managed_bytes"} <= shown.keys()
