"""LocalCluster: in this process, in processes, synchronous and asynchronous; what fails, fails clearly and cleanly."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
from typing import Any

import dask
import numpy as np
import psutil
import pytest

from headrace import Client, LocalCluster, Worker, default_client
from headrace.common.status import Status
from headrace.exceptions import WorkerStartTimeoutError
from headrace.rpc import LoopRunner
from headrace.testing.helpers.polling import async_poll_for, poll_for


def inc(x: int) -> int:
    return x + 1


def test_in_this_process() -> None:
    with LocalCluster(n_workers=2, threads_per_worker=3, processes=False, dashboard_address=None) as cluster:
        assert cluster.status is Status.running
        assert cluster.scheduler_address.startswith("inproc://")
        assert "workers=2, threads=6" in repr(cluster)
        assert set(cluster.workers) == cluster.observed == cluster.requested == cluster.plan == {0, 1}
        with Client(cluster) as client:
            assert client.submit(inc, 1).result() == 2
            assert set(client.run(os.getpid).values()) == {os.getpid()}
    assert cluster.status is Status.closed
    assert "workers=0" in repr(cluster)


def test_in_processes() -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
        assert cluster.client_address.startswith("inproc://")
        with Client(cluster) as client:
            pids = set(client.run(os.getpid).values())
            assert len(pids) == 2
            assert os.getpid() not in pids
            assert client.gather(client.map(inc, range(100))) == list(range(1, 101))
        with Client(cluster.scheduler_address) as client:
            assert client.submit(inc, 1).result() == 2
    poll_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), 10)


async def test_asynchronous() -> None:
    async with (
        LocalCluster(n_workers=1, processes=False, asynchronous=True, dashboard_address=None) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        assert cluster.loop.asyncio_loop is asyncio.get_running_loop()
        assert await client.submit(inc, 1) == 2
        await cluster.scale(2)
        assert len(cluster.scheduler.workers) == 2
        await cluster.wait_for_workers(2)
    assert cluster.status is Status.closed


async def test_awaiting_starts_it_and_close_ends_it() -> None:
    cluster = await LocalCluster(n_workers=1, processes=False, asynchronous=True, dashboard_address=None)
    assert cluster.status is Status.running
    await cluster.close()
    await cluster.close()
    assert cluster.status is Status.closed


def test_a_client_without_address_has_a_cluster_of_its_own() -> None:
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as client:
        cluster = client.cluster
        assert isinstance(cluster, LocalCluster)
        assert client.submit(inc, 1).result() == 2
    assert cluster.status is Status.closed


def test_a_client_whose_cluster_cannot_be_made_leaves_nothing() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Client(n_workers=-1)
    with pytest.raises(TypeError, match="bogus"):
        Client(n_workers=1, processes=False, bogus=1)
    with pytest.raises(ValueError, match="no level of logging"):
        Client(n_workers=1, processes=False, silence_logs="loud")
    assert not [thread for thread in threading.enumerate() if thread.name == "IO loop"]


def test_scale_up_and_down() -> None:
    with LocalCluster(n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        assert not cluster.workers
        cluster.scale(3)
        cluster.wait_for_workers(3, timeout=10)
        cluster.scale(1)
        poll_for(lambda: len(cluster.observed) == 1, 10)
        assert cluster.plan == {0}
        cluster.scale(cores=2)
        cluster.wait_for_workers(2, timeout=10)
        cluster.sync(cluster.scale_down, [0])
        poll_for(lambda: cluster.observed == cluster.plan, 10)
        assert 0 not in cluster.plan


@pytest.mark.parametrize("number", [None, "1", 2.5])
async def test_scaling_to_what_is_no_number_changes_nothing(number: Any) -> None:
    async with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, asynchronous=True, dashboard_address=None
    ) as cluster:
        with pytest.raises(TypeError, match=f"integer, not {number!r}"):
            await cluster.scale(number)
        assert cluster.plan == {0}
        await cluster.scale(np.int64(2))
        assert cluster.plan == {0, 1}


@pytest.mark.parametrize("name", ["n_workers", "threads_per_worker"])
def test_sizes_that_are_no_numbers_are_named(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an integer, not '2'"):
        LocalCluster(**{name: "2"}, processes=False, dashboard_address=None)


def test_waiting_for_workers_that_do_not_come_ends() -> None:
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        with pytest.raises(WorkerStartTimeoutError, match="Only 1/5 workers"):
            cluster.wait_for_workers(5, timeout=0.05)
        with pytest.raises(ValueError, match="positive"):
            cluster.wait_for_workers(0)


class Broken(Worker):
    """Does not start."""

    async def start(self) -> Any:
        raise OSError("no room")

    def __await__(self) -> Any:
        return self.start().__await__()


def test_a_worker_that_does_not_start_is_a_clear_error() -> None:
    with pytest.raises(OSError, match="no room") as caught:
        LocalCluster(n_workers=2, worker_class=Broken, dashboard_address=None)
    assert caught.value.__notes__[0] in {f"worker {name} of LocalCluster did not start" for name in (0, 1)}
    assert not [thread for thread in threading.enumerate() if thread.name == "IO loop"]


@pytest.mark.parametrize("processes", [True, False])
def test_an_unknown_keyword_is_named(processes: bool) -> None:
    with pytest.raises((TypeError, RuntimeError), match="bogus"):
        LocalCluster(n_workers=1, processes=processes, bogus=3, dashboard_address=None)


def test_operations_can_be_blocked() -> None:
    with (
        LocalCluster(
            n_workers=1, processes=False, blocked_handlers=["run_function"], dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        assert client.submit(inc, 1).result() == 2
        with pytest.raises(ValueError, match="'run_function' handler has been explicitly disallowed in Scheduler"):
            client.run_on_scheduler(os.getpid)
    with (
        dask.config.set({"distributed.worker.blocked-handlers": ["run"]}),
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
        pytest.raises(ValueError, match="disallowed in Worker"),
    ):
        client.run(os.getpid)


def test_logs_are_silent_while_it_lives() -> None:
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.worker", "distributed.nanny")]
    before = [logger.level for logger in loggers]
    for processes in (False, True):
        with LocalCluster(n_workers=1, processes=processes, silence_logs=logging.ERROR, dashboard_address=None):
            assert loggers[0].level == logging.ERROR
        assert [logger.level for logger in loggers] == before


def test_a_plain_with_is_refused_when_asynchronous() -> None:
    cluster = LocalCluster(n_workers=0, processes=False, asynchronous=True, dashboard_address=None)
    with pytest.raises(TypeError, match="async with"), cluster:
        pass


def test_the_cluster_gives_the_same_client_while_it_is_open() -> None:
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        client = cluster.get_client()
        assert cluster.get_client() is client
        assert client.submit(inc, 1).result() == 2
    assert client.status == "closed"


def test_the_client_that_there_is_serves_the_cluster() -> None:
    options: dict[str, Any] = {"n_workers": 0, "processes": False, "dashboard_address": None}
    with LocalCluster(**options) as cluster, LocalCluster(**options) as other:
        with Client(cluster) as client:
            assert cluster.get_client() is client
            assert other.get_client() is not client
            assert default_client() is other.get_client()
            assert cluster.get_client() is not client  # another is the default now
        with Client(cluster, set_as_default=False) as client:
            assert cluster.get_client() is not client


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ({"scheduler_port": 0}, "inproc://"),
        ({"host": ""}, "inproc://"),
        ({"host": "127.0.0.2"}, "tcp://127.0.0.2:"),
        ({"host": "tcp://127.0.0.2"}, "tcp://127.0.0.2:"),
        ({"protocol": "tcp"}, "tcp://127.0.0.1:"),
    ],
)
def test_threads_are_reached_where_an_address_is_asked_for(options: dict[str, Any], address: str) -> None:
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None, **options) as cluster,
        Client(cluster) as client,
    ):
        assert cluster.scheduler_address.startswith(address)
        assert cluster.workers[0].address.startswith(address)
        assert client.submit(inc, 1).result() == 2


def test_threads_with_a_port_of_the_scheduler() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with LocalCluster(n_workers=0, processes=False, scheduler_port=port, dashboard_address=None) as cluster:
        assert cluster.scheduler_address == f"tcp://127.0.0.1:{port}"


def test_no_host_means_all_interfaces() -> None:
    with LocalCluster(n_workers=0, host="", dashboard_address=None) as cluster:
        port = cluster.scheduler.port
        with Client(f"tcp://127.0.0.2:{port}", set_as_default=False):
            pass


def test_a_loop_that_is_given_is_the_loop_of_all() -> None:
    runner = LoopRunner()
    runner.start()
    options: dict[str, Any] = {"n_workers": 1, "processes": False, "dashboard_address": None}
    with LocalCluster(loop=runner.loop, **options) as cluster, Client(cluster, loop=runner.loop) as client:
        assert all(one.loop is runner.loop for one in (cluster, cluster.scheduler, cluster.workers[0], client))
    runner.stop()


async def test_a_loop_that_runs_elsewhere_does_not_disturb_a_synchronous_cluster() -> None:
    # as in a notebook, where the user's thread has a running loop
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        assert not cluster.asynchronous
        cluster.wait_for_workers(1, timeout=10)


async def test_connections_to_a_scheduler_of_this_process() -> None:
    async with LocalCluster(n_workers=0, asynchronous=True, dashboard_address=None, security=True) as cluster:
        comm = await cluster.scheduler_comm.live_comm()
        await comm.write({"op": "identity", "reply": True})
        assert (await comm.read())["type"] == "Scheduler"
    assert comm.closed()


async def test_workers_that_close_themselves_are_seen() -> None:
    async with LocalCluster(n_workers=2, processes=False, asynchronous=True, dashboard_address=None) as cluster:
        await cluster.workers[0].close()
        await async_poll_for(lambda: cluster.observed == {1}, 10)


SCRIPT = """
from dask.distributed import Client, LocalCluster
cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
client = Client(cluster)
print(client.submit(lambda x: x + 1, 1).result())
print(list(client.run(__import__("os").getpid).values())[0], flush=True)
"""


def test_a_script_without_main_guard_that_closes_nothing_leaves_nothing(tmp_path: Any) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    result, pid = done.stdout.split()
    assert result == "2"
    poll_for(lambda: not psutil.pid_exists(int(pid)), 10)


def test_the_address_that_a_client_tells_is_of_use_to_other_processes() -> None:
    with LocalCluster(n_workers=0, dashboard_address=None) as cluster, Client(cluster) as client:
        assert client.scheduler.address == cluster.scheduler_address == client.scheduler_info()["address"]
        assert client.scheduler.address.startswith("tcp://")
        assert repr(client.scheduler.address) in repr(client)
        assert client.session.address.startswith("inproc://"), "and calls go through memory as before"
