"""`cancel(running=True)`: what runs is interrupted, and nothing else is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import dask
import pytest

from headrace import Client, LocalCluster, Scheduler, TaskCancelled, Worker
from headrace.client import FutureCancelledError
from headrace.testing.helpers.log_reading import captured_logger
from headrace.testing.helpers.polling import async_poll_for, poll_for
from headrace.testing.leaks import check_process_leak

from .conftest import PATIENCE


def begins(path: str) -> None:
    Path(path).touch()


def spin(path: str) -> None:
    begins(path)
    try:
        while True:
            with contextlib.suppress(Exception):  # as tasks do
                time.sleep(0)
    except TaskCancelled as error:
        Path(path + ".said").write_text(str(error))
        raise


def in_c(path: str) -> None:
    begins(path)
    time.sleep(10_000)


async def in_coroutine(path: str) -> None:
    begins(path)
    try:
        await asyncio.sleep(10_000)
    except asyncio.CancelledError:
        Path(path + ".said").write_text(path)
        raise


@pytest.mark.slow
@pytest.mark.parametrize("function", [spin, in_c, in_coroutine])
@pytest.mark.parametrize("by", ["future", "client"])
def test_running_work_ends_and_its_thread_is_freed(client: Client, tmp_path: Path, function: Any, by: str) -> None:
    path = str(tmp_path / "began")
    future = client.submit(function, path)
    after = client.submit(abs, -5, pure=False)
    poll_for(lambda: os.path.exists(path), PATIENCE, period=0.01)
    if by == "future":
        future.cancel(running=True)
    else:
        client.cancel([future], running=True)
    assert future.cancelled()
    with pytest.raises(FutureCancelledError):
        future.result(timeout=PATIENCE)
    assert after.result(timeout=PATIENCE) == 5
    if function is not in_c:
        poll_for(lambda: os.path.exists(path + ".said"), PATIENCE, period=0.01)
        assert Path(path + ".said").read_text()


def wait_for(path: str) -> int:
    while not os.path.exists(path):
        time.sleep(0.005)
    return 3


def test_plain_cancel_lets_it_run_to_its_end(client: Client, tmp_path: Path) -> None:
    future = client.submit(wait_for, str(tmp_path / "go"))
    after = client.submit(abs, -6, pure=False)
    future.cancel()
    assert client.submit(abs, -7, pure=False).status == "pending"
    (tmp_path / "go").touch()
    assert after.result(timeout=PATIENCE) == 6


def test_what_others_want_goes_on(client: Client, cluster: LocalCluster, tmp_path: Path) -> None:
    with Client(cluster, set_as_default=False) as other:
        mine = client.submit(wait_for, str(tmp_path / "go"))
        theirs = other.submit(wait_for, str(tmp_path / "go"))
        poll_for(lambda: any(client.processing().values()), PATIENCE, period=0.01)
        mine.cancel(running=True)
        (tmp_path / "go").touch()
        assert theirs.result(timeout=PATIENCE) == 3


def test_the_same_key_again_runs_again(client: Client, tmp_path: Path) -> None:
    """The end of the interrupted run is not taken for that of the new one."""
    path = str(tmp_path / "go")
    for _ in range(10):
        future = client.submit(wait_for, path, key="again")
        poll_for(lambda: any(client.processing().values()), PATIENCE, period=0.005)
        future.cancel(running=True)
    future = client.submit(wait_for, path, key="again")
    begins(path)
    assert future.result(timeout=PATIENCE) == 3


def works_for(seconds: float, number: int) -> int:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return number


def test_neighbours_are_never_hit(client: Client) -> None:
    draw = random.Random(3)
    kept = []
    for number in range(300):
        victim = client.submit(works_for, draw.uniform(0, 0.003), number, pure=False)
        kept += client.map(works_for, [0, 0.0005], [number, -number], pure=False)
        time.sleep(draw.uniform(0, 0.002))
        victim.cancel(running=True)
    assert client.gather(kept) == [value for number in range(300) for value in (number, -number)]


# The last resort


def stuck(path: str, number: int) -> int:
    with open(path, "a") as file:
        file.write("x")
    if number < 0:
        time.sleep(10_000)
    return number


@pytest.mark.slow
def test_force_restarts_a_worker_and_blames_nobody(tmp_path: Path) -> None:
    with (
        check_process_leak(),
        dask.config.set({"distributed.worker.interrupt-grace": "50 ms", "distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        before = client.run(os.getpid)
        result = client.submit(stuck, str(tmp_path / "result"), 5)
        assert result.result(timeout=PATIENCE) == 5
        innocent = client.submit(wait_for, str(tmp_path / "go"))
        victim = client.submit(stuck, str(tmp_path / "victim"), -1)
        poll_for(lambda: (tmp_path / "victim").exists(), PATIENCE, period=0.01)
        victim.cancel(running=True, force=True)
        poll_for(lambda: set(client.run(os.getpid).values()).isdisjoint([*before.values(), None]), PATIENCE)
        (tmp_path / "go").touch()
        client.wait_for_workers(1, timeout=PATIENCE)

        def blamed(dask_scheduler: Scheduler) -> list[Any]:
            return [task.key for task in dask_scheduler.tasks.values() if task.suspicious]

        assert client.run_on_scheduler(blamed) == []
        assert innocent.result(timeout=PATIENCE) == 3
        assert client.submit(abs, result).result(timeout=PATIENCE) == 5, "computed again"
        assert (tmp_path / "result").read_text() == "xx"
        assert (tmp_path / "victim").read_text() == "x"


def test_force_restarts_nothing_that_ends_in_time(client: Client, tmp_path: Path) -> None:
    before = client.run(os.getpid)
    path = str(tmp_path / "began")
    future = client.submit(spin, path)
    poll_for(lambda: os.path.exists(path), PATIENCE, period=0.01)
    future.cancel(running=True, force=True)
    assert client.submit(abs, -8, pure=False).result(timeout=PATIENCE) == 8
    assert client.run(os.getpid) == before


_gate = threading.Lock()


def behind_gate() -> None:
    _gate.acquire()
    _gate.release()


async def test_without_a_nanny_the_log_says_what_to_do(tmp_path: Path) -> None:
    with (
        dask.config.set({"distributed.worker.interrupt-grace": "10 ms"}),
        captured_logger("distributed.worker", logging.ERROR) as log,
        _gate,
    ):
        async with (
            Scheduler(host="127.0.0.1", validate=True) as scheduler,
            Worker(scheduler.address, nthreads=1, validate=True, local_directory=str(tmp_path)) as worker,
            Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
        ):
            future = client.submit(behind_gate, key="stuck")
            await async_poll_for(lambda: bool(worker.task_executor.active_threads()), PATIENCE, period=0.01)
            await future.cancel(running=True, force=True)
            await async_poll_for(lambda: "nanny" in log.getvalue(), PATIENCE, period=0.01)
            assert await client.submit(abs, -9) == 9
            (left,) = [
                thread
                for thread in threading.enumerate()
                if thread.name.startswith("Headrace-Tasks") and thread not in worker.task_executor.pool._threads
            ]
    assert "'stuck'" in log.getvalue()
    assert worker.address in log.getvalue()
    left.join(PATIENCE)
