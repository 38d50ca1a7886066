"""Strangers, garbage and other versions: their connection ends with one clear line, and nobody else's."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest

from headrace.comm import Comm, CommClosedError, Listener, ProtocolVersionError, connect, listen
from headrace.comm.opening.handshake import MAGIC, PROTOCOL_VERSION
from headrace.comm.opening.opening_states import GREETING_BYTES
from headrace.messages import FromWorker
from tests.comm.opened import greeting, listeners_info, opening_bytes
from tests.comm.transports import Collected, Transport

HELLO = opening_bytes()


class Server:
    """Echoes to everyone; keeps the ends of its comms."""

    def __init__(self) -> None:
        self.ends = Collected()
        self.handled = 0

    async def echo(self, comm: Comm) -> None:
        self.handled += 1
        try:
            while True:
                await comm.write(await comm.read())
        except CommClosedError as error:
            self.ends.on_batch([error])


@asynccontextmanager
async def serving(transport: Transport) -> AsyncIterator[tuple[Server, Listener]]:
    """A listener with an honest peer connected, who must still be served in the end."""
    server = Server()
    async with transport.listening(server.echo) as listener:
        honest = await transport.connect(listener)
        yield server, listener
        await honest.write("still there?")
        assert await honest.read() == "still there?"
        await honest.close()


async def stranger(transport: Transport, listener: Listener, data: bytes, eof: bool = False) -> bytes:
    """Send bytes and return what comes back until the connection ends."""
    if transport.scheme in ("ws", "wss"):
        return await web_stranger(transport, listener, data, eof)
    host, port = listener.contact_address.rpartition("//")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=transport.connect_args.get("ssl_context"))
    try:
        writer.write(data)
        if eof:
            await writer.drain()
            # What is not read would turn the end into a reset.
            await (listeners_info(reader) if len(data) > GREETING_BYTES else reader.readexactly(GREETING_BYTES))
            writer.close()
            return b""
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def web_stranger(transport: Transport, listener: Listener, data: bytes, eof: bool) -> bytes:
    """The same in a message on a WebSocket; with `eof`, the connection then ends without a farewell."""
    answers = b""
    context = transport.connect_args.get("ssl_context", True)
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession() as session,
        session.ws_connect(listener.contact_address, ssl=context) as websocket,
    ):
        await websocket.send_bytes(data)
        if eof:
            for _ in range(2 if len(data) > GREETING_BYTES else 1):  # greeting; verdict and what it tells of itself
                await websocket.receive()
            websocket._response.close()
            return b""
        async for message in websocket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                break
            answers += message.data
    return answers


async def connections_gone(listener: Listener) -> None:
    """Wait until the accepting side has closed what never became a comm (nobody is told of that)."""
    psutil = pytest.importorskip("psutil")
    port = int(listener.contact_address.rpartition(":")[2])

    def accepted() -> bool:
        found = psutil.Process().net_connections(kind="tcp")
        return any(entry.laddr and entry.laddr.port == port and entry.status != "LISTEN" for entry in found)

    async with asyncio.timeout(20):
        while accepted():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP"),
        (os.urandom(100_000), "does not speak headrace's protocol"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (MAGIC + struct.pack("<I", 2**32 - 1), "handshake"),
        (MAGIC + struct.pack("<I", 4) + b"\xc1\xc1\xc1\xc1", "malformed handshake"),
        (MAGIC + struct.pack("<I", 1) + b"\x01", "malformed handshake"),
    ],
)
async def test_strangers_are_refused(
    socket_transport: Transport, logs: pytest.LogCaptureFixture, data: bytes, expected: str
) -> None:
    async with serving(socket_transport) as (server, listener):
        await stranger(socket_transport, listener, data)
        assert server.handled == 1
        lines = [record.getMessage() for record in logs.records]
        assert len(lines) == 1
        assert expected in lines[0]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (struct.pack("<IQ", 1, 2**60), str(2**60)),
        (struct.pack("<IQ", 1, 2**63 + 5), "compress"),
        (struct.pack("<IQQ", 2, 1, 2**64 - 1), "announced"),
        (struct.pack("<I", 2**32 - 1), "frames"),
        (struct.pack("<I", 0), "frames"),
        (struct.pack("<IQ", 1, 3) + b"\xc1\xc1\xc1", "malformed"),
        (struct.pack("<IQ", 1, 0), "malformed"),
    ],
)
async def test_malformed_packets_close_the_connection(
    socket_transport: Transport, logs: pytest.LogCaptureFixture, data: bytes, expected: str
) -> None:
    async with serving(socket_transport) as (server, listener):
        await stranger(socket_transport, listener, HELLO + data + bytes(10))
        await server.ends.wait_for(1)
        assert expected in logs.text


@pytest.mark.parametrize("data", [b"", struct.pack("<IQ", 1, 2**40) + bytes(1000), struct.pack("<IQ", 1, 100), b"\x01"])
async def test_a_stop_in_mid_frame(socket_transport: Transport, logs: pytest.LogCaptureFixture, data: bytes) -> None:
    """A terabyte is announced over the limit, or little comes of what was announced."""
    async with serving(socket_transport) as (server, listener):
        await stranger(socket_transport, listener, HELLO + data, eof=True)
        (error,) = await server.ends.wait_for(1)
        if data:
            assert "middle" in str(error) or "announced" in str(error)


@pytest.mark.parametrize("data", [MAGIC[:4], MAGIC, HELLO[:-1]])
async def test_a_stop_in_the_handshake(socket_transport: Transport, data: bytes) -> None:
    async with serving(socket_transport) as (server, listener):
        await stranger(socket_transport, listener, data, eof=True)
        assert server.handled == 1


async def test_a_silent_stranger_is_dropped(
    socket_transport: Transport, logs: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask.config

    with dask.config.set({"distributed.comm.timeouts.connect": "100ms"}):
        async with serving(socket_transport) as (_, listener):
            await stranger(socket_transport, listener, b"")
            assert "no handshake" in logs.text


async def test_announced_memory_is_not_taken(socket_transport: Transport) -> None:
    """Sixty gigabytes, allowed by the limit, of which nothing comes."""
    psutil = pytest.importorskip("psutil")
    async with serving(socket_transport) as (server, listener):
        before = psutil.Process().memory_info().rss
        await stranger(socket_transport, listener, HELLO + struct.pack("<IQ", 1, 60 << 30) + bytes(70_000), eof=True)
        await server.ends.wait_for(1)
        assert psutil.Process().memory_info().rss - before < 1 << 30


async def test_versions_differ(
    socket_transport: Transport, logs: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each end is told both versions and what to do."""
    async with serving(socket_transport) as (server, listener):
        answer = await stranger(socket_transport, listener, greeting(version=99))
        assert answer[: len(MAGIC)] == MAGIC  # enough for the other side to say the same
        assert server.handled == 1
        assert "protocol version 99" in logs.text
        assert f"version {PROTOCOL_VERSION}" in logs.text
        assert "install the same version" in logs.text


@asynccontextmanager
async def something_else(data: bytes) -> AsyncIterator[str]:
    """The address of a server that sends bytes to everyone and closes."""
    handled: list[asyncio.Task[Any] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handled.append(asyncio.current_task())
        writer.write(data)
        await reader.read(10_000)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*[task for task in handled if task])


async def test_connecting_to_another_version() -> None:
    async with something_else(greeting(version=99)) as address:
        with pytest.raises(ProtocolVersionError, match=r"version 99, .* version 2 .*install the same"):
            await connect(address, timeout=10)


async def test_connecting_to_something_else() -> None:
    async with something_else(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        with pytest.raises(OSError, match="looks like HTTP"):
            await connect(address, timeout=0.2)


async def test_encryption_on_one_side_only(security: Any, logs: pytest.LogCaptureFixture) -> None:
    async def handle(comm: Comm) -> None: ...

    connect_args, listen_args = security.get_connection_args("client"), security.get_listen_args("worker")
    async with (
        await listen("tcp://127.0.0.1:0", handle) as plain,
        await listen("tls://127.0.0.1:0", handle, **listen_args) as encrypted,
    ):
        with pytest.raises(OSError):  # noqa: PT011 (what it says is TLS's own affair)
            await connect(plain.contact_address.replace("tcp", "tls"), timeout=0.3, **connect_args)
        with pytest.raises(OSError):  # noqa: PT011
            await connect(encrypted.contact_address.replace("tls", "tcp"), timeout=0.3)
        with pytest.raises(OSError, match="encryption is required"):
            await connect(plain.contact_address, timeout=10, **connect_args)
        with pytest.raises(OSError, match="no certificates"):
            await connect(encrypted.contact_address, timeout=10)
        for listener in (plain, encrypted):
            await connections_gone(listener)
    with pytest.raises(RuntimeError, match="encryption is required"):
        await listen("tcp://127.0.0.1:0", handle, **listen_args)
    with pytest.raises(TypeError, match="no certificates"):
        await listen("tls://127.0.0.1:0", handle)


async def test_a_certificate_of_another_authority(security: Any, logs: pytest.LogCaptureFixture) -> None:
    from headrace.security import Security

    async def handle(comm: Comm) -> None:
        await comm.write("welcome")

    other = Security.temporary()
    async with await listen("tls://127.0.0.1:0", handle, **security.get_listen_args("scheduler")) as listener:
        with pytest.raises(OSError):  # noqa: PT011
            await connect(listener.contact_address, timeout=10, **other.get_connection_args("client"))
        await connections_gone(listener)


async def test_address_in_use(transport: Transport) -> None:
    async def handle(comm: Comm) -> None: ...

    async with transport.listening(handle) as listener:
        with pytest.raises(OSError, match="cannot listen at"):
            await listen(listener.listen_address, handle, **transport.listen_args)


async def test_garbage_after_a_stream_began(socket_transport: Transport, logs: pytest.LogCaptureFixture) -> None:
    ended = Collected()

    async def handle(comm: Comm) -> None:
        comm.start_stream(FromWorker, ended.on_batch, ended.on_close)

    async with socket_transport.listening(handle) as listener:
        await stranger(socket_transport, listener, HELLO + struct.pack("<IQ", 1, 1) + b"\x01")
        error = await ended.wait_closed()
        assert isinstance(error, CommClosedError)
        assert "malformed" in str(error)
