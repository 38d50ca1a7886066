"""`distributed.comm`: modules of other names, and comms over streams of tornado."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Any

import pytest

from headrace import Client, Scheduler, Worker
from headrace.comm import Comm, CommClosedError, FatalCommClosedError, connect, listen
from headrace.comm.registry import Connector
from headrace.compat import compatibility
from headrace.compat.comm import tcp, utils
from headrace.compat.comm.core import get_backend, normalize_address
from headrace.compat.comm.inproc import new_address
from headrace.security import Security


async def tls_stream(address: str, security: Security) -> Any:
    """What a connector of one's own makes: a stream with TLS, and a server name of its own choice."""
    tcpclient = pytest.importorskip("tornado.tcpclient")
    host, port = address.removeprefix("tls://").split(":")
    plain = await tcpclient.TCPClient().connect(host, int(port), max_buffer_size=tcp.MAX_BUFFER_SIZE)
    context = security.get_connection_args("client")["ssl_context"]
    return await plain.start_tls(False, ssl_options=context, server_hostname="gateway-name")


async def over_tornado(address: str, security: Security, deserialize: bool = True) -> Comm:
    stream = await tls_stream(address, security)
    return tcp.TLS(stream, f"tls://{tcp.get_stream_address(stream)}", address, deserialize)


@pytest.fixture(scope="module")
def security() -> Security:
    return Security.temporary()


async def test_messages_over_a_stream_of_tornado(security: Security) -> None:
    async def echo(comm: Comm) -> None:
        while not comm.closed():
            try:
                await comm.write(await comm.read())
            except CommClosedError:
                return

    async with await listen("tls://127.0.0.1:0", echo, **security.get_listen_args("scheduler")) as listener:
        comm = await over_tornado(listener.contact_address, security)
        assert comm.peer_address == listener.contact_address
        assert comm.local_address.startswith("tls://127.0.0.1:")
        assert comm.extra_info["peercert"]
        for value in ("short", os.urandom(20_000_000), list(range(100_000))):
            await comm.write(value)
            assert await comm.read() == value
        await comm.close()
        assert comm.closed()
        with pytest.raises(CommClosedError):
            await comm.read()


async def test_the_other_end_closes(security: Security) -> None:
    async def close(comm: Comm) -> None:
        await comm.write("last words")
        await comm.close()

    async with await listen("tls://127.0.0.1:0", close, **security.get_listen_args("scheduler")) as listener:
        comm = await over_tornado(listener.contact_address, security)
        assert await comm.read() == "last words"
        with pytest.raises(CommClosedError):
            await comm.read()
        await comm.close()


class GatewayConnector(Connector):
    """As dask-gateway's: `gateway://host:port` is a TLS connection with a server name."""

    security: Security

    async def connect(self, address: str, deserialize: bool = True, **connection_args: object) -> Comm:
        return await over_tornado(f"tls://{address}", self.security, deserialize)


async def test_a_client_over_a_stream_of_tornado(security: Security, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gateway(type(get_backend("tls"))):  # type: ignore[misc]
        connector = GatewayConnector

    from headrace.comm.registry import backends

    monkeypatch.setattr(GatewayConnector, "security", security, raising=False)
    monkeypatch.setitem(backends, "gateway", Gateway())
    async with (
        Scheduler(host="127.0.0.1", security=security) as scheduler,
        Worker(scheduler.address, nthreads=1, host="127.0.0.1", security=security),
        Client(scheduler.address.replace("tls:", "gateway:"), asynchronous=True, security=security) as client,
    ):
        assert await client.submit(sum, range(10)) == 45
        data = b"x" * 3_000_000
        assert await client.gather(await client.scatter(data, direct=False), direct=False) == data


async def test_errors_of_streams() -> None:
    iostream = pytest.importorskip("tornado.iostream")
    with pytest.raises(CommClosedError, match="in here: ConnectionResetError: gone"):
        tcp.convert_stream_closed_error("here", iostream.StreamClosedError(ConnectionResetError("gone")))
    with pytest.raises(FatalCommClosedError):
        tcp.convert_stream_closed_error("here", iostream.StreamClosedError(ssl.SSLError("TLSV1_ALERT_UNKNOWN_CA")))
    with pytest.raises(CommClosedError) as closed:
        tcp.convert_stream_closed_error("here", iostream.StreamClosedError())
    assert not isinstance(closed.value, FatalCommClosedError)


async def test_addresses_within_the_process_have_a_scheme() -> None:
    address = new_address()
    assert address.startswith("inproc://")
    assert address != new_address()
    assert normalize_address(address) == address

    async def handle(comm: Comm) -> None:
        await comm.write("here")

    async with listen(address, handle) as listener:
        assert listener.contact_address == address
        assert await (await connect(address)).read() == "here"


async def test_frames_for_transports_of_ones_own() -> None:
    message = {"op": "x", "data": [1, (2, 3), {"a": b"b"}]}
    assert await utils.from_frames(await utils.to_frames(message, serializers=["dask", "pickle"])) == message


def test_hosts_that_others_can_reach() -> None:
    assert (
        utils.ensure_concrete_host("0.0.0.0", "10.0.0.1") == utils.ensure_concrete_host("::", "10.0.0.1") == "10.0.0.1"
    )
    assert utils.ensure_concrete_host("") not in ("", "0.0.0.0")
    assert utils.ensure_concrete_host("localhost", "10.0.0.1") == "localhost"


async def test_where_a_server_of_asyncio_listens() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    assert utils.get_tcp_server_address(server) == server.sockets[0].getsockname()
    server.close()
    with pytest.raises(RuntimeError, match="does not listen"):
        utils.get_tcp_server_address(server)


def test_running_a_loop_of_ones_own() -> None:
    loops = []

    def make() -> asyncio.AbstractEventLoop:
        loops.append(asyncio.new_event_loop())
        return loops[0]

    async def which() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert compatibility.asyncio_run(which(), loop_factory=make) is loops[0]
    assert loops[0].is_closed()
    assert compatibility.logging_names["INFO"] == 20
    assert compatibility.logging_names[20] == "INFO"


def test_the_documented_names_are_the_same_objects() -> None:
    import distributed.comm.addressing
    import distributed.comm.core
    import distributed.comm.tcp
    from distributed.utils import ensure_ip

    assert distributed.comm.core.get_backend is get_backend
    assert distributed.comm.addressing.addr_from_args(ip="10.0.0.1", port=1) == "tcp://10.0.0.1:1"
    assert isinstance(get_backend("tls"), distributed.comm.tcp.TLSBackend)
    assert ensure_ip("127.0.0.1") == "127.0.0.1"


def test_the_module_of_websockets() -> None:
    import distributed.comm.ws as module

    assert isinstance(get_backend("ws"), module.WSBackend)
    assert isinstance(get_backend("wss"), module.WSSBackend)
    assert isinstance(get_backend("ws"), module.BaseTCPBackend)
    assert isinstance(get_backend("ws").get_connector(), module.WSConnector)
    assert issubclass(module.WSSListener, module.WSListener)
    assert 0 < module.BIG_BYTES_SHARD_SIZE <= module.MAX_MESSAGE_SIZE
    assert module.logger.name == "distributed.comm.ws"


def test_a_module_of_the_interface_is_found_whatever_was_imported_before() -> None:
    import headrace.comm.tcp
    from distributed.comm import tcp as found

    assert found is tcp is not headrace.comm.tcp
