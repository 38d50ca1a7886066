"""Requests and replies, over sockets and within the process."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from headrace.comm import Comm, CommClosedError, ConnectTimeoutError, connect
from headrace.exceptions import BadRequestError, DeserializationError, RPCClosed, UnknownOperationError
from headrace.messages import FromWorker, ToWorker
from headrace.messages.worker import FreeKeys, ReleasedData
from headrace.protocol import Serialize, Serialized
from headrace.rpc import NO_REPLY, ConnectionPool, PatientCalls, RequestServer, Stream, rpc, send_recv
from headrace.rpc.server import FAULTS_AT_ONCE, Faults


@pytest.fixture(params=["tcp://127.0.0.1:0", "inproc://"])
def address(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class NotHere(Exception):
    """Cannot be rebuilt from its `args`."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a}, {b}")


class Load:
    """Something that a request brings, whose end can be seen."""


class Handlers:
    def __init__(self) -> None:
        self.called: list[Any] = []
        self.event = asyncio.Event()
        self.started = asyncio.Event()

    def echo(self, x: Any = None) -> Any:
        return x

    async def slow(self) -> str:
        self.started.set()
        await self.event.wait()
        return "done"

    def fail(self, message: str) -> None:
        raise KeyError(message)

    def deny(self) -> None:
        raise BadRequestError("there is no such thing")

    def strange(self) -> None:
        raise NotHere(1, 2)

    def whence(self, comm: Comm) -> str:
        return comm.peer_address

    def note(self, x: Any) -> None:
        self.called.append(x)
        self.event.set()

    def unsendable(self) -> Any:
        return {"x": object()}

    def silent(self) -> Any:
        return NO_REPLY

    async def register(self, comm: Comm, name: str) -> None:
        await comm.write({"status": "OK", "name": name})
        stream = Stream(comm, FromWorker, lambda batch: stream.send_all([FreeKeys([m.key]) for m in batch]), self.ended)

    def ended(self, error: Exception | None) -> None:
        self.called.append(error)
        self.event.set()

    async def refuse(self, comm: Comm) -> None:
        raise ValueError("not you")


@asynccontextmanager
async def serving(address: str, **kwargs: Any) -> AsyncIterator[tuple[RequestServer, Handlers, ConnectionPool]]:
    handlers = Handlers()
    names = ("echo", "slow", "fail", "deny", "strange", "whence", "note", "unsendable", "silent")
    server = RequestServer(
        {name: getattr(handlers, name) for name in names},
        {"register": handlers.register, "refuse": handlers.refuse},
        name="test server",
        **kwargs,
    )
    await server.listen(address)
    pool = ConnectionPool(timeout=10)
    try:
        yield server, handlers, pool
    finally:
        handlers.event.set()
        await pool.close()
        await server.close_comms()


async def test_calls(address: str) -> None:
    async with serving(address) as (server, _, pool), rpc(server.address) as own:
        proxy = pool(server.address)
        assert await proxy.echo(x=(1, {"a": 2})) == (1, {"a": 2})
        assert await proxy.echo() is None
        assert await own.echo(x=Serialize({1})) == {1}
        assert (await proxy.whence()).startswith(address.partition(":")[0])
        assert server.address in repr(proxy)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0"])
async def test_exceptions_are_raised_at_the_caller(address: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(address) as (server, _, pool):
        proxy = pool.rpc(server.address)
        with pytest.raises(KeyError, match="hello") as caught:
            await proxy.fail(message="hello")
        assert caught.traceback[-1].name == "fail"
        assert "handling op fail" in caplog.text
        with pytest.raises(NotHere, match="1, 2"):  # whatever its constructor demands
            await proxy.strange()
        with pytest.raises(TypeError, match="unexpected keyword"):
            await proxy.echo(y=1)
        with pytest.raises(TypeError, match="cannot carry a object"):
            await proxy.unsendable()
        assert await proxy.echo(x=1) == 1
        assert pool.open == 1


async def test_only_bugs_are_logged_with_their_tracebacks(address: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(address) as (server, _, pool):
        proxy = pool.rpc(server.address)
        with pytest.raises(KeyError):
            await proxy.fail(message="hello")
        (record,) = caplog.records
        assert record.exc_info
        assert record.levelno == logging.ERROR
        caplog.clear()
        with pytest.raises(BadRequestError, match="no such thing"):
            await proxy.deny()
        (record,) = caplog.records
        assert not record.exc_info
        assert record.levelno == logging.WARNING
        assert "op deny from" in record.getMessage()
        assert "there is no such thing" in record.getMessage()


async def test_unknown_operations_are_named(address: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(address) as (server, _, pool):
        with pytest.raises(UnknownOperationError, match=r"test server at .* has no operation 'nope'") as caught:
            await pool.rpc(server.address).nope()
        assert server.address.partition("://")[0] in str(caught.value)
        assert await pool.rpc(server.address).echo(x=1) == 1


@pytest.mark.parametrize("request_", [3, [], {"a": 1}, {"op": 3}])
async def test_malformed_requests(address: str, request_: Any) -> None:
    async with serving(address) as (server, _, _):
        comm = await connect(server.address)
        await comm.write(request_)
        assert (await comm.read())["status"] == "uncaught-error"
        assert await send_recv(comm, op="echo", x=2) == 2
        await comm.close()


async def test_arguments_that_cannot_be_loaded(caplog: pytest.LogCaptureFixture) -> None:
    async with serving("tcp://127.0.0.1:0") as (server, _, pool):
        with pytest.raises(Exception, match="no_such_module"):
            await pool.rpc(server.address).echo(x=Serialized.of(b"cno_such_module\nx\n."))
        assert await pool.rpc(server.address).echo(x=1) == 1


async def test_arguments_stay_closed_without_deserialize(address: str) -> None:
    async with serving(address, deserialize=False) as (server, _, pool):
        assert await pool.rpc(server.address).echo(x=Serialize({1, 2})) == {1, 2}


async def test_an_idle_comm_keeps_nothing_of_its_last_request(address: str) -> None:
    gone = asyncio.Event()

    def watch(x: Load) -> str:
        weakref.finalize(x, gone.set)
        return type(x).__name__

    server = RequestServer({"watch": watch}, name="test server")
    await server.listen(address)
    pool = ConnectionPool(timeout=10)
    try:
        assert await pool.rpc(server.address).watch(x=Serialize(Load())) == "Load"
        await asyncio.wait_for(gone.wait(), 10)
        assert len(server.comms) == 1
    finally:
        await pool.close()
        await server.close_comms()


async def test_no_reply(address: str) -> None:
    async with serving(address) as (server, handlers, pool):
        assert await pool.rpc(server.address).note(x=5, reply=False) is None
        await asyncio.wait_for(handlers.event.wait(), 10)
        assert handlers.called == [5]
        assert await pool.rpc(server.address).echo(x=1) == 1  # not the answer to `note`
        assert pool.open == 1


async def test_concurrent_calls_open_more_comms(address: str) -> None:
    async with serving(address) as (server, handlers, pool):
        calls = [asyncio.ensure_future(pool.rpc(server.address).slow()) for _ in range(5)]
        await handlers.started.wait()
        assert await pool.rpc(server.address).echo(x=1) == 1
        assert pool.active == 5
        handlers.event.set()
        assert await asyncio.gather(*calls) == ["done"] * 5
        assert (pool.active, pool.open) == (0, 6)
        await pool.rpc(server.address).echo()
        assert pool.open == 6


async def test_the_pool_keeps_few_idle_comms(address: str) -> None:
    async with serving(address) as (server, _, pool):
        pool.limit = 2
        await asyncio.gather(*[pool.rpc(server.address).echo(x=number) for number in range(6)])
        assert pool.open == 2


async def test_closed_comms_are_dropped(address: str) -> None:
    async with serving(address) as (server, _, pool):
        await pool.rpc(server.address).echo()
        for comm in list(server.comms):
            await comm.close()
        comm = next(iter(pool._idle))
        while not comm.closed():
            await asyncio.sleep(0)
        assert await pool.rpc(server.address).echo(x=1) == 1
        assert pool.open == 1


async def test_cancelled_calls_close_their_comm(address: str) -> None:
    async with serving(address) as (server, handlers, pool):
        call = asyncio.ensure_future(pool.rpc(server.address).slow())
        await handlers.started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert pool.open == 0
        handlers.event.set()
        assert await pool.rpc(server.address).echo(x="mine") == "mine"


async def test_removing_an_address_fails_its_calls(address: str) -> None:
    async with serving(address) as (server, handlers, pool):
        await pool.rpc(server.address).echo()
        call = asyncio.ensure_future(pool.rpc(server.address).slow())
        await handlers.started.wait()
        pool.remove(server.address)
        with pytest.raises(CommClosedError):
            await call
        assert pool.open == 0


async def test_a_server_that_goes_away(address: str) -> None:
    async with serving(address) as (server, handlers, pool):
        call = asyncio.ensure_future(pool.rpc(server.address).slow())
        await handlers.started.wait()
        await server.close_comms()
        with pytest.raises(CommClosedError):
            await call
        pool.timeout = 0.05
        with pytest.raises(ConnectTimeoutError, match=server.address.partition("://")[0]):
            await pool.rpc(server.address).echo()


async def test_closing_waits_for_requests_under_way(address: str) -> None:
    async with serving(address, timeout=10) as (server, handlers, pool):
        call = asyncio.ensure_future(pool.rpc(server.address).slow())
        await handlers.started.wait()
        closing = asyncio.ensure_future(server.close_comms())
        await asyncio.sleep(0)
        handlers.event.set()
        assert await call == "done"
        await closing


async def test_closed_pools_and_proxies(address: str) -> None:
    async with serving(address) as (server, _, pool):
        proxy = rpc(server.address, timeout=5)
        await proxy.echo()
        await proxy.close_rpc()
        with pytest.raises(RPCClosed, match="echo"):
            await proxy.echo()
        await pool.close()
        with pytest.raises(RPCClosed):
            await pool.rpc(server.address).echo()


async def test_closing_a_pool_ends_attempts_to_connect() -> None:
    pool = ConnectionPool(timeout=60)
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    call = asyncio.ensure_future(pool.rpc(f"tcp://127.0.0.1:{port}").echo())
    while not pool._connecting:
        await asyncio.sleep(0)
    await pool.close()
    with pytest.raises(RPCClosed):
        await call


async def test_takeovers_and_streams(address: str) -> None:
    async with serving(address) as (server, handlers, pool):
        comm = await pool.connect(server.address)
        assert await send_recv(comm, op="register", name="w") == {"status": "OK", "name": "w"}
        pool.forget(comm)
        received: asyncio.Queue[list[Any]] = asyncio.Queue()
        ends: list[Any] = []
        stream = Stream(comm, ToWorker, received.put_nowait, ends.append)
        for number in range(3):
            stream.send(ReleasedData(number))
        stream.send_all([ReleasedData(3), ReleasedData(4)])
        assert await asyncio.wait_for(received.get(), 10) == [FreeKeys([number]) for number in range(5)]  # one batch
        assert not stream.closed
        assert stream.peer_address == server.address
        stream.send(ReleasedData("last"))
        await stream.close()
        await asyncio.wait_for(handlers.event.wait(), 10)
        assert handlers.called == [None]
        assert stream.closed
        stream.send(ReleasedData("dropped"))
        while not ends:
            await asyncio.sleep(0)
        assert ends == [None]


async def test_a_takeover_that_fails(address: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(address) as (server, _, _):
        comm = await connect(server.address)
        with pytest.raises(ValueError, match="not you"):
            await send_recv(comm, op="refuse")
        with pytest.raises(CommClosedError):
            await comm.read()


async def test_an_unsendable_message_closes_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    async with serving("tcp://127.0.0.1:0") as (server, _handlers, _):
        comm = await connect(server.address)
        await send_recv(comm, op="register", name="w")
        received: asyncio.Queue[list[Any]] = asyncio.Queue()
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        stream = Stream(comm, ToWorker, received.put_nowait, ended.set_result)
        stream.send(ReleasedData("fine"))
        stream.send(ReleasedData(object()))  # type: ignore[arg-type]
        await asyncio.wait_for(ended, 10)
        assert "ReleasedData cannot be sent" in caplog.text


async def test_addresses_of_a_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    server = RequestServer({}, name="test server")
    with pytest.raises(ValueError, match="does not listen"):
        _ = server.address
    await server.listen("tcp://127.0.0.1:0")
    await server.listen("inproc://")
    assert server.address == f"tcp://127.0.0.1:{server.port}" == server.listen_address
    assert len(server.listeners) == 2
    other = RequestServer({})
    with pytest.raises(OSError, match=str(server.port)):
        await other.listen(server.address)
    await server.close_comms()


def test_modules_beside_the_class_of_the_packages_name() -> None:
    import headrace.rpc.loops.loop as by_import
    from headrace import rpc as public
    from headrace.rpc.loops import loop

    assert by_import is loop
    assert public is rpc
    with pytest.raises(AttributeError, match="nothing"):
        rpc.nothing  # noqa: B018


def test_how_much_patience_there_is() -> None:
    faults = Faults(100.0)
    assert not any(faults.add(100.0) for _ in range(FAULTS_AT_ONCE))
    assert faults.add(100.0)
    assert not faults.add(101.0)
    slow = Faults(0.0)
    assert not any(slow.add(now) for now in range(10_000))


@pytest.mark.parametrize("request_", [{"op": "nope"}, {"op": "echo", "z": 1}, 3, {"op": "fail", "message": "x"}])
async def test_who_goes_on_asking_for_nonsense_is_disconnected(
    address: str, caplog: pytest.LogCaptureFixture, request_: Any
) -> None:
    async with serving(address) as (server, _, pool):
        comm = await connect(server.address)
        for _ in range(3000):
            comm.send(request_)
        answers = 0
        with suppress(CommClosedError):
            while True:
                await comm.read()
                answers += 1
        assert answers < 3000
        await comm.close()
        assert len(caplog.records) <= 4
        assert "goes on asking" in caplog.text
        assert await pool.rpc(server.address).echo(x=1) == 1


async def test_who_waits_for_each_answer_may_fail_as_often_as_it_likes(address: str) -> None:
    async with serving(address) as (server, _, pool):
        for _ in range(3 * FAULTS_AT_ONCE):
            with pytest.raises(KeyError):
                await pool.rpc(server.address).fail(message="x")
        assert await pool.rpc(server.address).echo(x=1) == 1
        assert pool.open == 1


class Unloadable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


@pytest.mark.parametrize("blocked", [[], ["something"]])
async def test_what_cannot_be_loaded_here_may_be_sent_as_often_as_the_sender_likes(blocked: list[str]) -> None:
    async with serving("tcp://127.0.0.1:0") as (server, _, pool):
        server.block(blocked)
        for _ in range(3 * FAULTS_AT_ONCE):
            with pytest.raises(DeserializationError):
                await pool.rpc(server.address).echo(x=Serialize(Unloadable()))
        assert await pool.rpc(server.address).echo(x=1) == 1
        assert pool.open == 1
        comm = await connect(server.address)
        for _ in range(3000):  # not by who does not wait for the answers
            comm.send({"op": "echo", "x": Serialize(Unloadable())})
        answers = 0
        with suppress(CommClosedError):
            while True:
                await comm.read()
                answers += 1
        assert answers < 3000
        await comm.close()


async def test_idle_connections_that_the_other_end_closes_are_not_kept(address: str) -> None:
    async with serving(address) as (server, _, pool):
        await pool.rpc(server.address).echo(x=1)
        assert pool.open == 1
        await server.close_comms()
        async with asyncio.timeout(10):
            while pool.open:
                await asyncio.sleep(0.005)
        assert not pool._available


async def test_a_patient_call_leaves_nothing_for_the_collector(address: str) -> None:
    """Neither after an answer nor after an error."""
    async with serving(address) as (server, _, pool):
        calls = PatientCalls(pool)
        gc.collect()
        gc.disable()
        try:
            load = Load()
            end = weakref.ref(load)
            if address == "inproc://":
                assert await calls.call(server.address, "echo", x=Serialize(load)) is not None
            with pytest.raises(KeyError):
                await calls.call(server.address, "fail", message="x")
            comm = await pool.connect(server.address)
            pool.forget(comm)
            reference = weakref.ref(comm)
            await comm.close()
            del comm, load
            async with asyncio.timeout(10):
                while reference() is not None or end() is not None:
                    await asyncio.sleep(0.005)
        finally:
            gc.enable()
