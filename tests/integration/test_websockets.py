"""Clusters over WebSockets: of real processes, with TLS, and through nginx as a proxy."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import Client, LocalCluster, Nanny, Scheduler, Worker
from headrace.security import Security
from headrace.testing.helpers.polling import async_poll_for, poll_for

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
needs_nginx = pytest.mark.skipif(not NGINX, reason="needs nginx (Debian: nginx-light)")

LOCAL: dict[str, Any] = {"dashboard_address": None, "n_workers": 2, "threads_per_worker": 1}

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 200; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{port};
        location /dask/ {{
            proxy_pass http://{upstream}/;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $host;
        }}
    }}
}}
"""


class Proxy:
    """nginx in front of an address, at the path `/dask/` of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self, upstream: str) -> str:
        """Begin to pass connections on; returns the address to use instead."""
        port = self.port
        where = upstream.rpartition("//")[2]
        configuration = self.folder / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(folder=self.folder, port=port, upstream=where))
        self.process = subprocess.Popen(
            [str(NGINX), "-p", str(self.folder), "-c", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "error.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        poll_for(answers, 20)
        return f"ws://127.0.0.1:{port}/dask"

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(tmp_path)
    yield made
    made.stop()


def total(array: Any) -> int:
    return int(array.sum())


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["ws", "ws://"])
def test_a_cluster_of_processes(protocol: str) -> None:
    numpy = pytest.importorskip("numpy")
    with LocalCluster(protocol=protocol, **LOCAL) as cluster, Client(cluster) as client:
        assert cluster.scheduler_address.startswith("ws://127.0.0.1:")
        workers = client.scheduler_info()["workers"]
        assert len(workers) == 2
        assert all(
            address.startswith("ws://") and worker["nanny"].startswith("ws://") for address, worker in workers.items()
        )
        first, second = workers
        array = client.submit(numpy.ones, 5_000_000, workers=[first])
        assert client.submit(total, array, workers=[second.partition("://")[2]]).result() == 5_000_000
        assert client.gather(array).nbytes == 40_000_000
        scattered = client.scatter(numpy.ones(5_000_000))
        assert client.submit(total, scattered).result() == 5_000_000
        assert sorted(client.gather(client.map(abs, range(-100, 0)))) == list(range(1, 101))
        with Client(cluster.scheduler_address) as other:
            assert other.submit(os.getpid).result() != os.getpid()


@pytest.mark.slow
def test_a_cluster_with_tls() -> None:
    security = Security.temporary()
    with LocalCluster(protocol="wss", security=security, **LOCAL) as cluster, Client(cluster) as client:
        workers = client.scheduler_info()["workers"]
        assert all(address.startswith("wss://") for address in [*workers, cluster.scheduler_address])
        assert client.submit(pow, 2, 10).result() == 1024


async def test_servers_that_follow_the_scheduler() -> None:
    """A worker listens as its scheduler does, whether it is given a host or not."""
    async with (
        Scheduler(host="127.0.0.1", protocol="ws", dashboard_address=None) as scheduler,
        Worker(scheduler.address) as plain,
        Worker(scheduler.address, host="127.0.0.1") as hosted,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        assert all(worker.address.startswith("ws://127.0.0.1:") for worker in (plain, hosted))
        await client.wait_for_workers(2)
        assert await client.gather(client.map(abs, [-1, -2])) == [1, 2]
        for worker in (plain, hosted):
            for name in (worker.address, worker.address.partition("://")[2]):
                future = client.submit(abs, -1, workers=[name], pure=False)
                assert await future == 1
                assert list((await client.who_has([future])).values()) == [(worker.address,)]


async def test_several_protocols_at_once() -> None:
    async with (
        Scheduler(host="127.0.0.1", protocol=["tcp", "ws"], port=[0, 0], dashboard_address=None) as scheduler,
        Worker(scheduler.address) as worker,
    ):
        web = next(one.contact_address for one in scheduler.listeners if one.contact_address.startswith("ws://"))
        async with Client(web, asynchronous=True) as client:
            assert await client.submit(abs, -1) == 1
            assert worker.address.startswith("tcp://")


@pytest.mark.slow
@needs_nginx
async def test_through_nginx(proxy: Proxy) -> None:
    """Workers and a client reach the scheduler by a proxy alone, at a path; the scheduler answers on the same way."""
    numpy = pytest.importorskip("numpy")
    async with Scheduler(host="ws://127.0.0.1:0", dashboard_address=None) as scheduler:
        address = proxy.start(scheduler.address)
        for given in (address, address + "/"):
            async with (
                Nanny(given, nthreads=1) as nanny,
                Worker(given, nthreads=1) as worker,
                Client(given, asynchronous=True) as client,
            ):
                assert worker.scheduler_address == given
                assert nanny.worker_address is not None
                array = numpy.arange(6_250_000)  # 50 MB
                scattered = await client.scatter(array, direct=False, workers=[worker.address])
                assert await client.submit(total, scattered, workers=[nanny.worker_address]) == array.sum()
                back = await client.gather(scattered, direct=False)
                assert (back == array).all()
                inside = await client.submit(submit_from_within, pure=False)
                assert inside == 10
                del scattered, back


def submit_from_within() -> Any:
    from headrace import get_client

    return get_client().submit(sum, [1, 2, 3, 4]).result()


@pytest.mark.slow
@needs_nginx
async def test_a_proxy_that_ends(proxy: Proxy) -> None:
    """A client behind a proxy that ends comes back when there is another."""
    async with (
        Scheduler(host="ws://127.0.0.1:0", dashboard_address=None) as scheduler,
        Worker(scheduler.address, nthreads=1),
    ):
        address = proxy.start(scheduler.address)
        async with Client(address, asynchronous=True) as client:
            assert await client.submit(abs, -1) == 1
            future = client.submit(abs, -2)
            assert await future == 2
            proxy.stop()
            await async_poll_for(lambda: client.status != "running", 20)
            assert proxy.start(scheduler.address) == address
            await async_poll_for(lambda: client.status == "running", 20)
            assert await client.submit(abs, -3) == 3
            assert await future == 2


@pytest.mark.slow
def test_commands(tmp_path: Path) -> None:
    """`dask scheduler --protocol ws` and a worker that is told its address."""
    file = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "headrace.cli.main"]
    scheduler = subprocess.Popen(
        [
            *command,
            "scheduler",
            "--protocol",
            "ws",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--scheduler-file",
            str(file),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        with Client(scheduler_file=str(file), timeout=30) as client:
            address = client.scheduler.address
            assert address.startswith("ws://")
            worker = subprocess.Popen([*command, "worker", address, "--nthreads", "1"], stderr=subprocess.DEVNULL)
            try:
                client.wait_for_workers(1, timeout=30)
                assert client.submit(abs, -1).result() == 1
                assert all(one.startswith("ws://") for one in client.scheduler_info()["workers"])
            finally:
                worker.terminate()
                worker.wait(30)
    finally:
        scheduler.terminate()
        scheduler.wait(30)


def test_who_does_not_use_it_does_not_import_aiohttp() -> None:
    script = (
        "import asyncio, sys\n"
        "from headrace import Client, Scheduler, Worker\n"
        "async def main():\n"
        "    async with Scheduler(host='127.0.0.1', port=0, dashboard_address=None) as s, Worker(s.address) as w:\n"
        "        async with Client(s.address, asynchronous=True) as c:\n"
        "            assert await c.submit(abs, -1) == 1\n"
        "asyncio.run(main())\n"
        "assert 'aiohttp' not in sys.modules\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
