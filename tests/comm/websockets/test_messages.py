"""What travels on a WebSocket: messages of limited length, in both directions, and peers that send something else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import aiohttp.web
import dask.config
import pytest

from headrace.comm import Comm, CommClosedError, connect, listen
from headrace.comm.websockets import websocket_transport, ws
from headrace.protocol import Frames
from tests.comm.opened import listening_bytes, opening_bytes
from tests.comm.transports import Collected, Transport

HELLO = opening_bytes()


@asynccontextmanager
async def raw_peer(accepted: Collected) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket of which only the handshake is headrace's; `accepted` gets the other end."""

    async def handle(comm: Comm) -> None:
        accepted.on_batch([comm])

    async with (
        await listen("ws://127.0.0.1:0", handle) as listener,
        aiohttp.ClientSession() as session,
        session.ws_connect(listener.contact_address) as websocket,
    ):
        await websocket.send_bytes(HELLO)
        assert (await websocket.receive_bytes())[:8] == HELLO[:8]
        await websocket.receive_bytes()  # the verdict, and what the other end tells of itself
        yield websocket


@pytest.mark.parametrize(("shard", "longest"), [("10kB", 10_000), ("8MiB", 1 << 16)])
async def test_messages_are_no_longer_than_configured(shard: str, longest: int) -> None:
    accepted = Collected()
    with dask.config.set({"distributed.comm.websockets.shard": shard}):
        async with raw_peer(accepted) as websocket:
            (comm,) = await accepted.wait_for(1)
            data = os.urandom(3_000_000)
            writing = asyncio.ensure_future(comm.write({"data": Frames([data])}))
            came = b""
            while len(came) < len(data):
                message = await websocket.receive_bytes(timeout=20)
                assert len(message) <= longest
                came += message
            await writing
            assert data in came
            comm.abort()


async def test_small_packets_share_messages() -> None:
    accepted = Collected()
    async with raw_peer(accepted) as websocket:
        (comm,) = await accepted.wait_for(1)
        for _ in range(100):
            comm.send("x")
        assert len(await websocket.receive_bytes(timeout=20)) >= 1000
        comm.abort()


@pytest.mark.parametrize("kind", ["text", "reserved bits", "too long", "a code of their own"])
async def test_other_messages_end_the_connection(kind: str, logs: pytest.LogCaptureFixture) -> None:
    accepted = Collected()
    async with raw_peer(accepted) as websocket:
        (comm,) = await accepted.wait_for(1)
        if kind == "text":
            await websocket.send_str("hello")
        elif kind == "a code of their own":
            await websocket.close(code=4000, message=b"enough")
        else:
            connection = websocket._response.connection
            assert connection is not None
            assert connection.transport is not None
            head = b"\xf2\x80" if kind == "reserved bits" else b"\x82\xff" + (1 << 40).to_bytes(8, "big")
            connection.transport.write(head + bytes(4))
        with pytest.raises(CommClosedError, match="4000" if kind == "a code of their own" else "WebSocket"):
            await comm.read()
        assert comm.closed()
        await comm.close()
    assert len(logs.records) == (kind != "a code of their own")


async def test_an_end_without_farewell_is_an_end() -> None:
    accepted = Collected()
    async with raw_peer(accepted) as websocket:
        (comm,) = await accepted.wait_for(1)
        reading = asyncio.ensure_future(comm.read())
        await asyncio.sleep(0)
        websocket._response.close()
        with pytest.raises(CommClosedError):
            await reading


async def test_a_silent_connection_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """By pings of the end that has connected, while nothing else moves."""
    monkeypatch.setattr(websocket_transport, "PING_SECONDS", 0.02)
    pings = asyncio.Event()

    async def serve(request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        websocket = aiohttp.web.WebSocketResponse(autoping=False)
        await websocket.prepare(request)
        await websocket.send_bytes(listening_bytes())
        async for message in websocket:
            if message.type is aiohttp.WSMsgType.PING:
                pings.set()
        return websocket

    server = await asyncio.get_running_loop().create_server(aiohttp.web.Server(serve, access_log=None), "127.0.0.1", 0)
    comm = await connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with asyncio.timeout(20):
        await pings.wait()
    await comm.close()
    server.close()
    await server.wait_closed()


async def test_an_end_that_never_agrees_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (websocket_transport, ws):
        monkeypatch.setattr(module, "CLOSE_SECONDS", 0.05)
    ended = asyncio.Event()

    async def serve(request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        websocket = aiohttp.web.WebSocketResponse(autoclose=False)
        await websocket.prepare(request)
        await websocket.send_bytes(listening_bytes())
        await ended.wait()
        return websocket

    server = await asyncio.get_running_loop().create_server(aiohttp.web.Server(serve, access_log=None), "127.0.0.1", 0)
    comm = await connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with asyncio.timeout(20):
        await comm.close()
    assert comm.closed()
    ended.set()
    server.close()
    await server.wait_closed()


async def test_much_arrives_while_others_are_served(socket_transport: Transport) -> None:
    """A large frame leaves turns to the loop's other callbacks while it travels."""
    turns = 0
    data = bytes(30_000_000)
    with dask.config.set({"distributed.comm.same-machine-memory": False}):
        async with socket_transport.pair() as (near, far):
            writing = asyncio.ensure_future(near.write(Frames([data])))
            reading = asyncio.ensure_future(far.read())
            while not reading.done():
                turns += 1
                await asyncio.sleep(0)
            await writing
            assert (await reading).nbytes == len(data)
            assert turns >= 10
