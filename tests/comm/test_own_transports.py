"""Transports of users: comms that have the documented methods and no more."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from headrace import Client, Scheduler, Worker
from headrace.comm import CommClosedError, connect, get_backend, listen, registry
from headrace.compat.comm.core import Comm, Connector, Listener
from headrace.compat.comm.utils import from_frames, to_frames
from headrace.messages.base import Message
from headrace.rpc import Stream
from tests.comm.transports import Collected


class PlainComm(Comm):
    """Whole messages, with their lengths, over asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, deserialize: bool) -> None:
        super().__init__(deserialize=deserialize)
        self.reader, self.writer = reader, writer

    @property
    def local_address(self) -> str:  # type: ignore[override]
        return "plain://{}:{}".format(*self.writer.get_extra_info("sockname"))

    @property
    def peer_address(self) -> str:  # type: ignore[override]
        return "plain://{}:{}".format(*self.writer.get_extra_info("peername"))

    async def read(self, deserializers: Any = None) -> Any:
        try:
            (count,) = struct.unpack("<Q", await self.reader.readexactly(8))
            lengths = struct.unpack(f"<{count}Q", await self.reader.readexactly(8 * count))
            frames = [await self.reader.readexactly(length) for length in lengths]
        except (asyncio.IncompleteReadError, OSError) as error:
            self.abort()
            raise CommClosedError("the connection is closed") from error
        return await from_frames(frames, deserialize=self.deserialize, deserializers=deserializers)  # type: ignore[arg-type]

    async def write(self, msg: object, serializers: Any = None, on_error: Any = "message") -> None:
        frames = [memoryview(frame).cast("B") for frame in await to_frames(msg, serializers=serializers)]
        if self.writer.is_closing():
            raise CommClosedError("the connection is closed")
        self.writer.write(struct.pack(f"<{1 + len(frames)}Q", len(frames), *map(len, frames)))
        self.writer.writelines(frames)
        await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def abort(self) -> None:
        self.writer.close()

    def closed(self) -> bool:
        return self.writer.is_closing()


class PlainConnector(Connector):
    async def connect(self, address: str, deserialize: bool = True, **connection_args: object) -> Comm:
        host, port = address.split(":")
        return PlainComm(*await asyncio.open_connection(host, int(port)), deserialize)


class PlainListener(Listener):
    def __init__(self, location: str, handle_comm: Any, deserialize: bool) -> None:
        self.location, self.handle_comm, self.deserialize = location, handle_comm, deserialize

    async def start(self) -> None:
        host, _, port = self.location.partition(":")
        self.server = await asyncio.start_server(self._on_connected, host, int(port or 0))

    async def _on_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        comm = PlainComm(reader, writer, self.deserialize)
        await self.on_connection(comm)
        await self.handle_comm(comm)

    def stop(self) -> None:
        self.server.close()

    @property
    def listen_address(self) -> str:  # type: ignore[override]
        return "plain://{}:{}".format(*self.server.sockets[0].getsockname())

    @property
    def contact_address(self) -> str:  # type: ignore[override]
        return self.listen_address


class PlainBackend(registry.Backend):
    def get_connector(self) -> PlainConnector:
        return PlainConnector()

    def get_listener(self, loc: str, handle_comm: Any, deserialize: bool, **args: object) -> PlainListener:
        return PlainListener(loc, handle_comm, deserialize)

    def get_address_host(self, loc: str) -> str:
        return loc.partition(":")[0]

    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        host, _, port = loc.partition(":")
        return host, int(port)

    def resolve_address(self, loc: str) -> str:
        return loc

    def get_local_address_for(self, loc: str) -> str:
        return "127.0.0.1"


@pytest.fixture
def plain() -> Iterator[None]:
    registry.backends["plain"] = PlainBackend()
    yield
    del registry.backends["plain"]


class Note(Message, tag="note"):
    text: str
    data: bytes = b""


@pytest.mark.usefixtures("plain")
async def test_streams_are_made_of_reads_and_writes() -> None:
    far_end: asyncio.Future[Comm] = asyncio.get_running_loop().create_future()

    async def handle(comm: Comm) -> None:
        far_end.set_result(comm)

    async with listen("plain://127.0.0.1:0", handle) as listener:
        near = await connect(listener.contact_address)
        far = await far_end
        received, echoed = Collected(), Collected()
        near_stream = Stream(near, Note, echoed.on_batch, echoed.on_close)
        far_stream = Stream(far, Note, received.on_batch, received.on_close)
        notes = [Note(str(number), bytes(number)) for number in range(100)]
        near_stream.send_all(notes[:50])
        near_stream.flush()
        near_stream.send_all(notes[50:])
        await near_stream.close()  # once all is written
        assert await received.wait_closed() is None
        assert received.messages == notes
        await far_stream.close()
        with pytest.raises(CommClosedError):
            far.send([])


@pytest.mark.usefixtures("plain")
async def test_a_cluster_over_a_transport_of_ones_own() -> None:
    where: dict[str, Any] = {"protocol": "plain", "host": "127.0.0.1"}
    async with (
        Scheduler(**where) as scheduler,
        Worker(scheduler.address, nthreads=1, **where) as first,
        Worker(scheduler.address, nthreads=1, **where) as second,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        assert {address.partition(":")[0] for address in (scheduler.address, first.address, second.address)} == {
            "plain"
        }
        data = await client.scatter(b"x" * 1_000_000, workers=[first.address])
        assert await client.submit(len, data, workers=[second.address]) == 1_000_000  # from one worker to the other
        assert sum(await client.gather(client.map(abs, range(-50, 0)))) == 1275
        with pytest.raises(ZeroDivisionError):
            await client.submit(divmod, 1, 0)


def test_an_installed_package_offers_a_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = EntryPoint("offered", f"{__name__}:PlainBackend", registry.ENTRY_POINTS)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [offered] if "backends" in group else [])
    try:
        backend = get_backend("offered")
        assert isinstance(backend, PlainBackend)
        assert get_backend("offered") is backend
        with pytest.raises(ValueError, match=r"known schemes: inproc, offered"):
            get_backend("nobody")
    finally:
        registry.backends.pop("offered", None)


def test_own_backends_are_found_by_scheme() -> None:
    for scheme in ("tcp", "tls", "inproc", "ws", "wss"):
        assert registry.backends[scheme] is registry.get_backend(scheme)
    with pytest.raises(KeyError, match="pigeon"):
        registry.backends["pigeon"]
