"""SubprocessCluster: scheduler and workers in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from headrace import Client, SubprocessCluster
from headrace.deploy.subprocess import SubprocessScheduler, SubprocessWorker
from headrace.testing.helpers.polling import poll_for

ONE = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}


def inc(x: int) -> int:
    return x + 1


def scheduler_pid(dask_scheduler: Any = None) -> int:
    return os.getpid()


def test_a_client_scale_and_the_end() -> None:
    with SubprocessCluster(**ONE) as cluster, Client(cluster) as client:
        assert client.submit(inc, 1).result() == 2
        pid = client.run_on_scheduler(scheduler_pid)
        assert pid != os.getpid()
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=30)
        assert cluster.observed == {0, 1}
        cluster.scale(1)
        poll_for(lambda: cluster.observed == {0}, 20)
        assert "Registered" in "\n".join(cluster.workers[0].output.lines)
    assert not psutil.pid_exists(pid)


async def test_asynchronous_with_workers_without_nanny() -> None:
    async with (
        SubprocessCluster(**ONE, worker_class="distributed.Worker", asynchronous=True) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        assert await client.submit(inc, 1) == 2
        (info,) = cluster.scheduler_info["workers"].values()
        assert info["nanny"] is None


def test_what_a_process_said_is_in_the_error() -> None:
    with pytest.raises(RuntimeError, match="ended as it started") as caught:
        SubprocessCluster(**ONE, scheduler_kwargs={"bogus": 1})
    assert "bogus" in str(caught.value)
    with pytest.raises(RuntimeError, match="worker 0 of SpecCluster did not start") as caught:
        SubprocessCluster(**ONE, worker_kwargs={"bogus": 1})
    assert "bogus" in str(caught.value)


def test_options_that_cannot_be_told_another_process() -> None:
    with pytest.raises(RuntimeError, match="options for another process"):
        SubprocessCluster(**ONE, scheduler_kwargs={"extensions": object()})


async def test_the_parts() -> None:
    async with SubprocessScheduler({"port": 0}) as scheduler:
        assert scheduler.address is not None
        async with (
            SubprocessWorker(scheduler.address, "headrace.Worker", "w", {"nthreads": 1}),
            Client(scheduler.address, asynchronous=True) as client,
        ):
            (info,) = (await client.scheduler.identity())["workers"].values()
            assert info["name"] == "w"


SCRIPT = """
import os, signal
from headrace import Client, SubprocessCluster
cluster = SubprocessCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
client = Client(cluster)
print(client.run_on_scheduler(lambda: __import__("os").getpid()), *client.run(os.getpid).values(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_parent_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    poll_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), 30)
