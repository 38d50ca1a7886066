"""Clients and workers that are killed: others' work is done all the same, and who kills workers is named."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import Client, LocalCluster
from headrace.client import FutureCancelledError
from headrace.exceptions import KilledWorker
from headrace.testing.helpers.polling import async_poll_for, poll_for
from headrace.testing.leaks import clean

from .conftest import PATIENCE, Served

pytestmark = [
    pytest.mark.filterwarnings("ignore:the package 'distributed'"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL"),
]


@pytest.fixture
def client() -> Iterator[Client]:
    """Of a cluster of two worker processes."""
    with (
        clean(),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def inc(x: int) -> int:
    return x + 1


def die() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def slow(x: int) -> int:
    import time

    time.sleep(0.05)
    return x


def touch_and_wait(path: str, seconds: float) -> int:
    import os
    import time

    if os.path.exists(path):
        return 1  # somebody has been here before
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(seconds)
    return 0


def test_killed_worker_s_work_is_done_elsewhere(client: Client, tmp_path: Path) -> None:
    results = client.map(slow, range(20))
    dependents = client.map(inc, results)
    path = tmp_path / "running"
    running = client.submit(touch_and_wait, str(path), 60, priority=10)
    poll_for(lambda: path.exists() and path.read_text(), timeout=PATIENCE)
    before = set(client.scheduler_info()["workers"])
    os.kill(int(path.read_text()), signal.SIGKILL)
    assert running.result(timeout=PATIENCE) == 1
    assert client.gather(dependents) == [x + 1 for x in range(20)]
    client.wait_for_workers(2, timeout=PATIENCE)
    assert set(client.scheduler_info()["workers"]) != before


def test_task_that_kills_its_workers(client: Client) -> None:
    address = client.cluster.scheduler_address
    future = client.submit(die)
    dependent = client.submit(lambda x: x, future)
    for failed in (future, dependent):
        with pytest.raises(
            KilledWorker, match=r"4 workers died while they ran task 'die-.*last one at tcp://"
        ) as caught:
            failed.result(timeout=PATIENCE)
        assert caught.value.task == future.key
        assert caught.value.last_worker.address.startswith("tcp://")
        assert caught.value.allowed_failures == 3
    client.wait_for_workers(2, timeout=PATIENCE)
    with Client(address, set_as_default=False) as other:
        assert other.gather(other.map(inc, range(10))) == list(range(1, 11))


CLIENT_TO_KILL = """
import sys, time
from headrace import Client

def slow(x):
    time.sleep(0.01)
    return x

client = Client({0!r})
futures = client.map(slow, range(10_000))
futures[0].result()
print("running", flush=True)
time.sleep(60)
"""


async def test_killed_client(served: Served) -> None:
    kept = served.client.submit(inc, 41)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CLIENT_TO_KILL.format(served.scheduler.address),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"running\n"
    assert len(served.scheduler.tasks) > 1000
    process.kill()
    await process.wait()
    await async_poll_for(lambda: len(served.scheduler.tasks) == 1, timeout=PATIENCE)
    assert len(served.scheduler.clients) == 1 + ("fire-and-forget" in served.scheduler.clients)
    assert await kept == 42


@pytest.mark.parametrize("processes", [True, False])
def test_cluster_closes_while_tasks_run(processes: bool) -> None:
    raised: list[BaseException] = []

    def ask(future: Any) -> None:
        try:
            future.result()
        except BaseException as error:
            raised.append(error)

    with clean():
        cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=processes, dashboard_address=None)
        with Client(cluster) as client:
            running, waiting = client.submit(time.sleep, 0.5), client.submit(inc, 1)
            thread = threading.Thread(target=ask, args=(waiting,))
            thread.start()
            cluster.close()
            thread.join(PATIENCE)
            assert not thread.is_alive()
            with pytest.raises(FutureCancelledError):
                running.result(timeout=PATIENCE)
            assert [type(error) for error in raised] == [FutureCancelledError]
