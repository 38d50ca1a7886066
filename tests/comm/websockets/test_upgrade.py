"""From the first byte to a WebSocket: who is refused, how they are told, and what it costs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import aiohttp.web
import dask.config
import pytest

from headrace.comm import Comm, FatalCommClosedError, Listener, connect, listen
from headrace.security import Security
from tests.comm.transports import Collected

UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
KEY = {"Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="}


@asynccontextmanager
async def echoing(path: str = "") -> AsyncIterator[Listener]:
    """A listener with an honest peer, who must still be served in the end."""

    async def echo(comm: Comm) -> None:
        while True:
            await comm.write(await comm.read())

    async with await listen(f"ws://127.0.0.1:0{path}", echo) as listener:
        honest = await connect(listener.contact_address)
        yield listener
        await honest.write("still there?")
        assert await honest.read() == "still there?"
        await honest.close()


async def until_closed(listener: Listener, data: bytes) -> bytes:
    """What comes back for some bytes, until the connection ends."""
    host, port = listener.contact_address.rpartition("//")[2].partition("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 426),
        ("GET", "/elsewhere", {}, 404),
        ("GET", "/elsewhere", {**UPGRADE, **KEY}, 404),
        ("POST", "/", {}, 405),
        ("GET", "/", {**UPGRADE, **KEY, "Origin": "http://example.com"}, 403),
        ("GET", "/", UPGRADE, 400),
        ("GET", "/", {**UPGRADE, **KEY, "Sec-WebSocket-Version": "12"}, 400),
    ],
)
async def test_who_is_refused_hears_one_sentence(
    logs: pytest.LogCaptureFixture, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with echoing() as listener, aiohttp.ClientSession() as session:
        url = listener.contact_address.replace("ws", "http") + path
        async with session.request(
            method, url, headers=headers, data=b"x" * 100 if method == "POST" else None
        ) as answer:
            text = await answer.text()
            assert answer.status == status
        assert text.endswith(".\n")
        assert text.count("\n") == 1
        assert "<" not in text
    assert not logs.records


@pytest.mark.parametrize(
    "data",
    [
        os.urandom(300),
        b"headrace" + bytes(100),
        b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(100)),
    ],
)
async def test_what_is_no_request_costs_one_line(logs: pytest.LogCaptureFixture, data: bytes) -> None:
    async with echoing() as listener:
        answer = await until_closed(listener, data)
        assert answer == b"" or answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert [record.levelname for record in logs.records] == ["WARNING"]
    assert not logs.records[0].exc_info


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_slow_request_is_dropped(logs: pytest.LogCaptureFixture, data: bytes) -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}):
        async with echoing() as listener:
            assert await until_closed(listener, data) == b""
    assert [record.getMessage().count("in time") for record in logs.records] == [1]


async def test_a_listener_that_stops_drops_who_is_no_websocket_yet() -> None:
    accepted = Collected()

    async def handle(comm: Comm) -> None:
        accepted.on_batch([comm])

    listener = await listen("ws://127.0.0.1:0", handle)
    comm = await connect(listener.contact_address)
    (far,) = await accepted.wait_for(1)
    waiting = asyncio.ensure_future(until_closed(listener, b"GET / HTTP/1.1\r\n"))
    async with asyncio.timeout(20):
        while not listener._upgrading:  # type: ignore[attr-defined]
            await asyncio.sleep(0.005)
    listener.stop()
    assert await waiting == b""
    await comm.write("still open")
    assert await far.read() == "still open"
    await comm.close()
    await far.close()


@pytest.mark.parametrize("behind", ["", "/"])
async def test_a_path_of_its_own(behind: str) -> None:
    async with echoing("/dask/a") as listener:
        assert listener.contact_address.endswith("/dask/a")
        comm = await connect(listener.contact_address + behind)
        assert comm.peer_address == listener.contact_address
        assert comm.same_host
        await comm.close()
        with pytest.raises(FatalCommClosedError, match="status 404; check the address, its path"):
            await connect(listener.contact_address.replace("/a", "/b"), timeout=3600)


async def test_other_protocols_on_either_side() -> None:
    async def handle(comm: Comm) -> None: ...

    async with await listen("tcp://127.0.0.1:0", handle) as plain, await listen("ws://127.0.0.1:0", handle) as web:
        with pytest.raises(OSError, match="tcp://"):
            await connect(plain.contact_address.replace("tcp", "ws"), timeout=0.3)
        with pytest.raises(OSError, match="ws://"):
            await connect(web.contact_address.replace("ws", "tcp"), timeout=0.3)


async def test_encryption(security: Security) -> None:
    async def handle(comm: Comm) -> None:
        await comm.write(str(comm.extra_info["peercert"]["subject"]))

    connect_args, listen_args = security.get_connection_args("client"), security.get_listen_args("scheduler")
    with pytest.raises(RuntimeError, match="use a wss:// address"):
        await listen("ws://127.0.0.1:0", handle, **listen_args)
    with pytest.raises(FatalCommClosedError, match="use a wss:// address"):
        await connect("ws://127.0.0.1:1", **connect_args)
    with pytest.raises(TypeError, match="no certificates to listen at wss://"):
        await listen("wss://127.0.0.1:0", handle)
    with pytest.raises(FatalCommClosedError, match="no certificates to connect to wss://"):
        await connect("wss://127.0.0.1:1")
    async with await listen("wss://127.0.0.1:0", handle, **listen_args) as listener:
        comm = await connect(listener.contact_address, **connect_args)
        assert "headrace" in await comm.read()
        assert comm.extra_info["cipher"]
        await comm.close()
        other = Security.temporary().get_connection_args("client")
        with pytest.raises(FatalCommClosedError, match="certificate"):
            await connect(listener.contact_address, timeout=3600, **other)


async def test_headers_for_a_proxy() -> None:
    """A server that takes only who has a token, and redirects once."""
    seen: list[Any] = []

    async def serve(request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        seen.append((request.path, request.headers.get("Authorization"), request.headers.get("Origin")))
        if request.path == "/a":
            return aiohttp.web.Response(status=301, headers={"Location": "/a/"})
        if request.path == "/out":
            return aiohttp.web.Response(status=301, headers={"Location": "http://example.invalid/"})
        status = 503 if len(seen) < 4 else 401
        return aiohttp.web.Response(status=status)

    server = await asyncio.get_running_loop().create_server(aiohttp.web.Server(serve, access_log=None), "127.0.0.1", 0)
    try:
        address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        arguments = Security(extra_conn_args={"headers": {"Authorization": "Token abc"}}).get_connection_args("client")
        with pytest.raises(FatalCommClosedError, match=r"401; check .*extra_conn_args"):
            await connect(f"{address}/a", timeout=3600, **arguments)
        assert seen[:4] == [("/a", "Token abc", None), ("/a/", "Token abc", None)] * 2
        with pytest.raises(FatalCommClosedError, match=r"redirects to http://example\.invalid/"):
            await connect(f"{address}/out", timeout=3600)
    finally:
        server.close()
        await server.wait_closed()


def test_a_process_that_has_connected_may_fork() -> None:
    """Its child ends in good order: no host was looked up in libuv's threads."""
    script = """
import os, sys, uvloop
from headrace.comm import connect, listen
async def handle(comm): ...
async def main():
    async with await listen("ws://127.0.0.1:0", handle) as listener:
        comm = await connect(listener.contact_address)
        child = os.fork()
        if not child:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        await comm.close()
uvloop.run(main())
"""
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
