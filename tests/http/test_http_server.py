"""The HTTP server of schedulers, workers and nannies: where it listens, when it wakes, how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import dask.config
import pytest

from headrace import Client, LocalCluster, Nanny, Scheduler, Security, Worker
from tests.http.http_calls import ask, exchange

LOCAL = {"host": "127.0.0.1", "dashboard_address": ":0"}


async def test_scheduler_worker_and_nanny_serve_health_by_http() -> None:
    async with (
        Scheduler(**LOCAL) as scheduler,
        Nanny(scheduler.address, nthreads=1, **LOCAL) as nanny,
        Worker(scheduler.address, nthreads=1, **LOCAL) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        for server in (scheduler, worker, nanny):
            answer = await ask(server.http_server.port, "/health")
            assert (answer.status, answer.body) == (200, b"ok")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            paths = json.loads((await ask(server.http_server.port, "/sitemap.json")).body)["paths"]
            assert {"/health", "/metrics", "/sitemap.json"} <= set(paths)
        workers = scheduler.identity()["workers"]
        assert scheduler.identity()["services"] == {"dashboard": scheduler.http_server.port}
        assert scheduler.services["dashboard"].port == scheduler.http_server.port
        assert workers[worker.address]["services"] == {"dashboard": worker.http_server.port}
        of_nanny = workers[nanny.worker_address]["services"]["dashboard"]
        assert (await ask(of_nanny, "/health")).body == b"ok"
        assert client.dashboard_link == f"http://127.0.0.1:{scheduler.http_server.port}/status"
        assert scheduler.get_worker_service_addr(worker.address, "dashboard") == ("127.0.0.1", worker.http_server.port)


async def test_no_address_means_no_http() -> None:
    async with Scheduler(host="127.0.0.1") as scheduler, Worker(scheduler.address, host="127.0.0.1") as worker:
        assert scheduler.http_server is None
        assert worker.http_server is None
        assert scheduler.identity()["services"] == {}
        async with Client(scheduler.address, asynchronous=True) as client:
            assert client.dashboard_link is None


def test_a_local_cluster_is_reached_from_this_machine_only() -> None:
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0", worker_dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        places = cluster.scheduler.http_server.places + cluster.workers[0].http_server.places
        assert {host for host, _ in places} == {"127.0.0.1"}
        link = f"http://localhost:{cluster.scheduler.http_server.port}/status"
        assert cluster.dashboard_link == client.dashboard_link == link
        assert link in cluster._repr_html_()


async def test_a_host_of_ones_own_several_addresses_and_a_link_of_ones_own() -> None:
    async with Scheduler(host="127.0.0.1", dashboard_address="127.0.0.2:0,127.0.0.1:0") as scheduler:
        (first, one), (second, other) = scheduler.http_server.places
        assert (first, second) == ("127.0.0.2", "127.0.0.1")
        assert scheduler.http_server.port == one
        assert (await ask(one, "/health", host="127.0.0.2")).body == b"ok"
        assert (await ask(other, "/health")).body == b"ok"
        with dask.config.set({"distributed.dashboard.link": "https://hub/{port}/x"}):
            async with Client(scheduler.address, asynchronous=True) as client:
                assert client.dashboard_link == f"https://hub/{one}/x"


async def test_a_scheduler_on_all_interfaces_serves_http_on_all_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "distributed.scheduler"):
        async with Scheduler(dashboard_address=":0") as scheduler:
            assert (await ask(scheduler.http_server.port, "/health", host="127.0.0.1")).body == b"ok"
            assert scheduler.http_server.address == ""
    lines = [record.getMessage().strip() for record in caplog.records]
    (line,) = [line for line in lines if line.startswith("dashboard at:")]
    assert line.endswith(f":{scheduler.http_server.port}/status")
    assert any("all interfaces" in line for line in lines)


async def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.warns(UserWarning, match=f"Port {taken} cannot be had for HTTP"):
            scheduler = await Scheduler(host="127.0.0.1", dashboard_address=f":{taken}")
        async with scheduler:
            assert scheduler.http_server.port not in (0, taken)
            assert (await ask(scheduler.http_server.port, "/health")).status == 200


async def test_a_malformed_address_prevents_the_start() -> None:
    with pytest.raises(RuntimeError, match="dashboard address") as caught:
        await Scheduler(host="127.0.0.1", dashboard_address="foo:bar")
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_prefix_is_served_and_the_root_as_well() -> None:
    async with Scheduler(**LOCAL, http_prefix="/my/cluster/") as scheduler:
        port = scheduler.http_server.port
        for path in ("/my/cluster/health", "/health", "/my/cluster/sitemap.json"):
            assert (await ask(port, path)).status == 200, path
        assert (await ask(port, "/my/clusterhealth")).status == 404
        assert "/my/cluster/health" in json.loads((await ask(port, "/sitemap.json")).body)["paths"]


async def test_a_prefix_with_characters_that_a_path_cannot_have() -> None:
    async with Scheduler(**LOCAL, http_prefix="/a b/ü<x>?") as scheduler:
        port, sent = scheduler.http_server.port, "/a%20b/%C3%BC%3Cx%3E%3F"
        for path in (f"{sent}/health", f"{sent}/info/main/workers.html", sent, "/health"):
            assert (await ask(port, path)).status == 200, path
        assert (await ask(port, f"{sent}/info")).headers["location"] == "info/main/workers.html"


async def test_an_address_that_cannot_be_had_leaves_no_socket_at_the_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    with pytest.raises(RuntimeError, match="cannot listen for HTTP"):
        await Scheduler(host="127.0.0.1", dashboard_address=f"127.0.0.1:{free},192.0.2.1:0")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free))


async def test_http_ends_with_the_server() -> None:
    scheduler = await Scheduler(**LOCAL)
    port = scheduler.http_server.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"ok")
    await scheduler.close()
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_close_right_after_the_first_connection_leaves_no_socket() -> None:
    scheduler = await Scheduler(**LOCAL)
    held = list(scheduler.http_server._waiting)
    with socket.create_connection(("127.0.0.1", scheduler.http_server.port)):
        scheduler.http_server._wake()  # as the loop does; the task that serves has not begun
        await scheduler.close()
    assert [each.fileno() for each in held] == [-1]


async def test_https_with_the_documented_keys(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    temporary = Security.temporary()
    certificate.write_text(str(temporary.tls_scheduler_cert))
    key.write_text(str(temporary.tls_scheduler_key))
    keys = {"cert": str(certificate), "key": str(key)}
    with dask.config.set({"distributed.scheduler.dashboard.tls": keys}):
        async with Scheduler(**LOCAL) as scheduler, Client(scheduler.address, asynchronous=True) as client:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            assert (await ask(scheduler.http_server.port, "/health", tls=context)).body == b"ok"
            assert str(client.dashboard_link).startswith("https://127.0.0.1:")
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await ask(scheduler.http_server.port, "/health")
    with (
        dask.config.set({"distributed.scheduler.dashboard.tls.cert": str(tmp_path / "missing.pem")}),
        pytest.raises(RuntimeError, match=r"dashboard\.tls: .*missing\.pem"),
    ):
        await Scheduler(**LOCAL)


def test_a_server_that_nobody_asks_imports_no_http_library() -> None:
    program = """
import asyncio, sys
from headrace import Scheduler, Worker

async def main():
    async with Scheduler(host="127.0.0.1", dashboard_address=":0") as scheduler:
        async with Worker(scheduler.address, host="127.0.0.1", dashboard_address=":0") as worker:
            assert worker.http_server.port
            assert not {"aiohttp", "prometheus_client", "html"} & set(sys.modules) - {"html"}
            _, writer = await asyncio.open_connection("127.0.0.1", worker.http_server.port)
            writer.write(b"GET /health HTTP/1.0\\r\\n\\r\\n")
            assert (await _.read()).endswith(b"ok")
            assert "aiohttp" in sys.modules
            writer.close()

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


async def test_a_request_that_is_split_and_several_on_one_connection() -> None:
    async with Scheduler(**LOCAL) as scheduler:
        reader, writer = await asyncio.open_connection("127.0.0.1", scheduler.http_server.port)
        for piece in (
            b"GET /hea",
            b"lth HTTP/1.1\r\nHo",
            b"st: x\r\n",
            b"\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            writer.write(piece)
            await writer.drain()
        assert b" 200 " in await reader.readuntil(b"ok")
        assert b" 404 " in await reader.readuntil(b"lists what there is\n")
        writer.close()
        await writer.wait_closed()


async def test_head_has_no_body() -> None:
    async with Scheduler(**LOCAL) as scheduler:
        answer = await ask(scheduler.http_server.port, "/health", "HEAD")
        assert (answer.status, answer.headers["content-length"], answer.body) == (200, "2", b"")
        request = b"HEAD /health HTTP/1.0\r\n\r\n"
        assert (await exchange(scheduler.http_server.port, request)).status == 200


async def test_start_http_server_adds_an_address_and_routes() -> None:
    from headrace.http.request_handler import RequestHandler

    class Mine(RequestHandler):
        def get(self, name: str) -> None:
            self.write({"name": name, "id": self.server.id})

    async with Scheduler(host="127.0.0.1") as scheduler:
        scheduler.start_http_server([(r"mine/(.*)", Mine)], ":0")
        first = scheduler.http_server.port
        assert json.loads((await ask(first, "/mine/a%20b")).body) == {"name": "a b", "id": scheduler.id}
        scheduler.start_http_server([(r"yours/(.*)", Mine, {})], ":0")
        (_, again) = scheduler.http_server.places[-1]
        assert json.loads((await ask(again, "/yours/1")).body)["name"] == "1"
        assert json.loads((await ask(first, "/yours/1")).body)["name"] == "1"
