"""Strangers at the ports of a scheduler and a worker, wrong addresses, other versions: one clear error, no harm."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headrace import Client, Worker
from headrace.comm import connect
from headrace.messages import ToClient, ToWorker
from headrace.messages.client import GraphRefused, SubmitGraph, TaskErred
from headrace.messages.worker import AddKeys, LongRunning, MissingData, TaskFailed, TaskFinished
from headrace.protocol import Frames, dumps
from headrace.rpc import Stream
from headrace.testing.helpers.polling import async_poll_for
from tests.comm.opened import opening_bytes

from .conftest import PATIENCE, Served, inc

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")

HELLO = opening_bytes()
STRANGERS = {
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "looks like HTTP"),
    "garbage": (os.urandom(5) + b"no headrace" * 1000, "does not speak headrace's protocol"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00" + bytes(200), "looks like TLS"),
    "huge frame": (HELLO + struct.pack("<IQ", 1, 1 << 60), "1152921504606846976|limit"),
    "many frames": (HELLO + struct.pack("<I", 1 << 31), "frames"),
    "no message": (HELLO + struct.pack("<IQ", 1, 5) + b"\xc1\xc1\xc1\xc1\xc1", "malformed"),
    "huge handshake": (b"headrace" + struct.pack("<I", 1 << 31), "malformed handshake"),
}


async def talk(address: str, data: bytes) -> bytes:
    """Send bytes, and read until the other side closes."""
    host, port = address.removeprefix("tcp://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("name", STRANGERS)
async def test_stranger(served: Served, name: str, caplog: pytest.LogCaptureFixture) -> None:
    data, text = STRANGERS[name]
    future = served.client.submit(asyncio.sleep, 0.05, inc)
    for address in (served.scheduler.address, served.worker.address):
        with caplog.at_level(logging.WARNING):
            await talk(address, data)
        (record,) = caplog.records
        assert record.exc_info is None
        assert re.search(text, record.getMessage())
        caplog.clear()
    assert await future is inc


@pytest.mark.parametrize("data", [HELLO[:5], HELLO, HELLO + struct.pack("<IQ", 1, 1000) + b"abc", b"", b"head"])
async def test_stop_in_the_middle(served: Served, data: bytes) -> None:
    """The connection stays open, and silent; later it is closed in the middle of what was announced."""
    writers = []
    for address in (served.scheduler.address, served.worker.address):
        host, port = address.removeprefix("tcp://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        await writer.drain()
        writers.append(writer)
    assert await served.client.submit(inc, 1) == 2
    for writer in writers:
        writer.close()
        await writer.wait_closed()


REQUESTS: list[Any] = [
    "text",
    [1, 2],
    {},
    {"op": 5},
    {"op": "no such operation"},
    {"op": "identity", "surplus": 1},
    {"op": "gather", "keys": 5},
    {"op": "scatter", "data": "x"},
    {"op": "who_has", "keys": 7},
    {"op": "get_data", "keys": 3.5},
    {"op": "update_data", "data": [1]},
    {"op": "run", "function": b"garbage"},
    {"op": "run_function", "function": b"garbage"},
    {"op": "register-worker"},
    {"op": "register-client"},
    {"op": "register-worker", "address": 5, "name": {}, "nthreads": "x"},
    {"op": "broadcast", "msg": 5},
    {"op": "plugin_add", "plugin": b"garbage"},
]


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
async def test_request_that_makes_no_sense(served: Served, request_: Any) -> None:
    for address in (served.scheduler.address, served.worker.address):
        comm = await connect(address, timeout=5)
        await comm.write(request_)
        async with asyncio.timeout(PATIENCE):
            reply = await comm.read()
        assert reply["status"] in ("uncaught-error", "error")
        comm.abort()


#: What a client that has registered sends, and what it gets; nothing when its connection is closed.
STREAMS: dict[str, tuple[Any, list[Any]]] = {
    "wrong types": ([["SubmitGraph", "x", 5]], []),
    "unknown message": ([["NoSuchMessage", 1]], []),
    "not a list": (5, []),
    "columns that do not fit": ([SubmitGraph(1, [], ["a"], [])], [GraphRefused]),
    "garbage payloads": ([SubmitGraph(1, [b"garbage"], ["a"], [b"garbage"])], [TaskErred]),
    "cycle": ([SubmitGraph(1, [b"x"], ["a", "b"], [b""] * 2, dependencies=[[1], [0]])], [GraphRefused]),
    "a function that is none": ([SubmitGraph(1, [5], ["a"], [b""])], [GraphRefused]),
    "arguments that are none": ([SubmitGraph(1, [dumps(inc)], ["a"], [{"x": 1}])], [TaskErred]),
    "frames": ([SubmitGraph(1, [Frames([b"x"])], ["a"], [Frames([b"y", b"z"])])], [TaskErred]),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_client_stream_that_makes_no_sense(served: Served, name: str) -> None:
    comm = await connect(served.scheduler.address, timeout=5)
    await comm.write({"op": "register-client", "reply": True, "client": "rogue", "versions": {}})
    await comm.read()
    answers: list[Any] = []
    answered = asyncio.Event()

    def on_batch(messages: list[Any]) -> None:
        answers.extend(messages)
        answered.set()

    stream = Stream(comm, ToClient, on_batch, lambda error: answered.set())
    comm.send(STREAMS[name][0])
    async with asyncio.timeout(PATIENCE):
        await answered.wait()
    assert [type(answer) for answer in answers] == STREAMS[name][1]
    stream.abort()


@pytest.mark.parametrize(
    "messages",
    [
        [TaskFinished("nothing", 1, 5, "int", 0.0, 1.0)],
        [TaskFailed("nothing", 1, b"garbage", b"garbage", "", "", 0.0, 1.0)],
        [AddKeys(["nothing"]), MissingData("nothing", "tcp://nobody:1"), LongRunning("nothing", 1, 2.0)],
        [["Nothing"]],
        5,
    ],
    ids=str,
)
async def test_worker_stream_that_makes_no_sense(served: Served, messages: Any) -> None:
    comm = await connect(served.scheduler.address, timeout=5)
    await comm.write({"op": "register-worker", "reply": True, "address": "tcp://127.0.0.1:1", "nthreads": 1})
    assert (await comm.read())["status"] == "OK"
    stream = Stream(comm, ToWorker, lambda _: None, lambda _: None)
    comm.send(messages)
    assert await served.client.submit(inc, 1, pure=False, workers=[served.worker.address]) == 2
    stream.abort()
    await async_poll_for(lambda: len(served.scheduler.workers) == 1, timeout=PATIENCE)


# Addresses


@asynccontextmanager
async def serving(answer: bytes) -> AsyncIterator[str]:
    """A server that is none of ours; its address."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield "tcp://{}:{}".format(*server.sockets[0].getsockname())


async def fails_naming(address: str, cause: str) -> None:
    """Neither a client nor a worker can use the address; both say so within their timeout."""
    for make in (
        lambda: Client(address, asynchronous=True, timeout=0.3),
        lambda: Worker(address, death_timeout=0.3),
    ):
        async with asyncio.timeout(PATIENCE):
            with pytest.raises((OSError, ValueError, RuntimeError)) as caught:
                await make()
        if type(caught.value) is RuntimeError:
            assert isinstance(caught.value.__cause__, (OSError, ValueError))
        assert address.partition("//")[2].partition(":")[0] in str(caught.value)
        assert re.search(cause, str(caught.value))


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        await fails_naming(f"tcp://127.0.0.1:{unused.getsockname()[1]}", "[Rr]efused.*right address")


async def test_host_that_does_not_exist() -> None:
    await fails_naming("tcp://nobody.invalid:8786", "right address|cannot look up the host 'nobody.invalid'")


@pytest.mark.parametrize(("answer", "cause"), [(b"", "no answer"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP")])
async def test_server_of_another_kind(answer: bytes, cause: str) -> None:
    async with serving(answer) as address:
        await fails_naming(address, cause)


async def test_address_of_a_worker(served: Served) -> None:
    await fails_naming(served.worker.address, "is no scheduler's address: the worker at")


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("127.0.0.1:99999999", "out of range in address '127.0.0.1:99999999'"),
        ("127.0.0.1", "missing port number in address '127.0.0.1': write host:port"),
        ("ftp://127.0.0.1:4", "unknown address scheme 'ftp'"),
        ("inproc://1/2/3", "belongs to another process; use its tcp:// address"),
        (5, "must be a string or a Cluster"),
    ],
)
async def test_address_that_is_none(address: Any, text: str) -> None:
    with pytest.raises((ValueError, TypeError, OSError), match=text):
        await Client(address, asynchronous=True, timeout=0.3)


async def test_scheduler_file_that_never_comes() -> None:
    with pytest.raises(OSError, match=r"no scheduler wrote its address to /nowhere/file\.json within 0.1 s"):
        await Client(scheduler_file="/nowhere/file.json", asynchronous=True, timeout=0.1)


OTHER_VERSION = """
import asyncio
from headrace.comm.opening import opening_states
opening_states.PROTOCOL_VERSION = 99
from headrace import Client, Worker

async def main():
    for make in (lambda: Client({0!r}, asynchronous=True, timeout=5), lambda: Worker({0!r}, death_timeout=5)):
        try:
            await make()
        except Exception as error:
            print(type(error).__name__, error)

asyncio.run(main())
"""


async def test_other_version(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        OTHER_VERSION.format(served.scheduler.address),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    output, _ = await process.communicate()
    lines = output.decode().splitlines()
    assert len(lines) == 2
    for line, beginning in zip(lines, ("", "RuntimeError Worker failed to start: "), strict=True):
        assert re.match(f"{beginning}ProtocolVersionError.*version 2, .*version 99 .*install the same version", line)
    assert len(caplog.records) in (1, 2)  # within a second of another, a line is left for the next one
    for record in caplog.records:
        assert re.search("version 99, .*version 2 .*install the same version", record.getMessage())
