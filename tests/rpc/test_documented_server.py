"""What the documents promise of every server: its life, services, connections, files and measurements."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from distributed import Client, Nanny, Scheduler, Worker, rpc
from distributed.core import ConnectionPool, PooledRPCCall, Server, Status, context_meter_to_server_digest
from distributed.metrics import context_meter
from distributed.node import ServerNode
from distributed.utils_test import async_poll_for, gen_cluster


async def test_a_server_of_ones_own(tmp_path: Path) -> None:
    server = Server({"double": lambda x: 2 * x}, blocked_handlers=["secret"], local_directory=str(tmp_path), timeout=1)
    assert server.status is Status.init
    assert server.address_safe == "not-running"
    await server.listen("tcp://127.0.0.1:0")
    folder = Path(server.local_directory)
    assert folder.parent == tmp_path
    async with rpc(server.address) as remote:
        assert await remote.double(x=4) == 8
        assert (await remote.identity())["type"] == "Server"
        assert await remote.echo(data=5) == 5
        with pytest.raises(ValueError, match="disallowed"):
            await remote.secret()
        assert remote.active == 0
        assert list(remote.comms.values()) == [True]
        assert server.incoming_comms_open == 1
        remote.close_comms()
        assert await remote.double(x=5) == 10  # it connects again
    reply = await server.upload_file("uploaded_for_a_server.py", b"value = 3")
    assert reply == {"status": "OK", "nbytes": 9}
    assert sys.modules["uploaded_for_a_server"].value == 3
    await server.close()
    assert not folder.exists()
    sys.path.remove(str(folder))
    del sys.modules["uploaded_for_a_server"]


async def test_calls_over_a_comm_and_by_a_pool() -> None:
    async with Server({"double": lambda x: 2 * x}, needs_workdir=False) as server:
        await server.listen("tcp://127.0.0.1:0")
        pool = await ConnectionPool(limit=2)
        proxy = PooledRPCCall(server.address, pool)
        assert await proxy.double(x=1) == 2
        comm = await pool.connect(server.address)
        alone = rpc(comm=comm)
        assert await asyncio.gather(alone.double(x=2), alone.double(x=3)) == [4, 6]
        await alone.close_rpc()
        with pytest.raises(ValueError, match="address"):
            rpc()
        await pool.close()


class Service:
    def __init__(self, server: Any, **options: Any) -> None:
        self.server, self.options, self.port = server, options, 0

    def listen(self, where: tuple[str, int]) -> None:
        self.port = where[1] or 12345

    def stop(self) -> None:
        self.port = -1


class Slow(Scheduler):
    """Does something of its own as a part of its start."""

    async def start_unsafe(self) -> Slow:
        await super().start_unsafe()
        self.prepared = True
        return self


async def test_services_and_a_start_of_ones_own() -> None:
    async with Slow(
        host="127.0.0.1", port=0, services={("own", 0): Service, "other": Service}, service_kwargs={"own": {"x": 1}}
    ) as scheduler:
        assert scheduler.prepared
        assert scheduler.service_ports == {"own": 12345, "other": 12345}
        own = scheduler.services["own"]
        assert own.options == {"x": 1}
        assert scheduler.identity()["services"] == scheduler.service_ports
        async with Worker(scheduler.address, host="127.0.0.1", services={"mine": Service}) as worker:
            assert scheduler.workers[worker.address].services == {"mine": 12345}
    assert own.port == -1


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_all_servers_are_servers(s: Any, a: Any) -> None:
    for one in (s, a):
        assert isinstance(one, Server)
        assert isinstance(one, ServerNode)
        assert one.get_connection_counters()["incoming_comms_open"] == one.incoming_comms_open
        one.digest_metric("bytes", 2)
        one.digest_metric("bytes", 1)
        assert (one.digests_total["bytes"], one.digests_max["bytes"]) == (3, 2)
        one.start_periodic_callbacks()
        assert all(callback.is_running() for callback in one.periodic_callbacks.values())
        assert list(one.logs)
    assert not isinstance(5, Server)
    assert issubclass(Nanny, Server)
    assert (Scheduler.default_port, Worker.default_port) == (0, 0)
    listener = await s.listen("tcp://127.0.0.1:0")
    async with Client(listener.contact_address, asynchronous=True) as client:
        assert await client.submit(abs, -1) == 1


async def test_streams_are_handled() -> None:
    taken: list[Any] = []
    server = Server({}, stream_handlers={"note": lambda **message: taken.append(message)}, needs_workdir=False)

    async def read(comm: Any) -> None:
        await server.handle_stream(comm, extra={"who": "me"})

    server.server.takeovers["stream"] = read
    await server.listen("tcp://127.0.0.1:0")
    async with ConnectionPool() as pool:
        comm = await pool.connect(server.address)
        await comm.write({"op": "stream"})
        await comm.write([{"op": "note", "x": 1}, {"op": "unknown"}, {"op": "note", "x": 2}])
        await comm.write([{"op": "close-stream"}])
        await async_poll_for(comm.closed, timeout=5)
    await server.close()
    assert taken == [{"who": "me", "x": 1}, {"who": "me", "x": 2}]


async def test_measurements_come_to_the_servers_sums() -> None:
    class Measured(Server):
        @context_meter_to_server_digest("serving")
        async def serve(self) -> int:
            context_meter.digest_metric("read", 3, "bytes")
            return 5

    server = Measured({}, needs_workdir=False)
    assert await server.serve() == 5
    assert server.digests_total == {("serving", "read", "bytes"): 3}
    await server.close()
