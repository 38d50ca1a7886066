"""Strangers at the ports of a scheduler and a worker, wrong addresses and versions: one clear error, no harm."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest

from headrace import Client, Worker
from headrace.comm import connect
from headrace.comm.handshake import encode_handshake, handshake_info
from headrace.messages import ToWorker
from headrace.messages.client import SubmitGraph
from headrace.protocol import Frames, dumps
from headrace.rpc import Stream

from .conftest import PATIENCE, Served, inc

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")

HELLO = encode_handshake(handshake_info())
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
        assert pytest.raises(AssertionError, match=text)  # a valid pattern
        import re

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


async def rogue(address: str) -> Any:
    """A comm that has shaken hands but sends nonsense."""
    return await connect(address, timeout=5)


REQUESTS: list[Any] = [
    "text",
    [1, 2],
    {},
    {"op": 5},
    {"op": "no such operation"},
    {"op": "identity", "surplus": 1},
    {"op": "gather", "keys": 5},
    {"op": "scatter", "data": "x"},
    {"op": "who_has", "keys": {"a": object}} if False else {"op": "who_has", "keys": 7},
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
async def test_request_that_makes_no_sense(served: Served, request_: Any, caplog: pytest.LogCaptureFixture) -> None:
    for address in (served.scheduler.address, served.worker.address):
        comm = await connect(address, timeout=5)
        await comm.write(request_)
        async with asyncio.timeout(PATIENCE):
            try:
                reply = await comm.read()
            except OSError:
                reply = None
        print("REPLY", request_, address is served.worker.address, str(reply)[:300])
        comm.abort()


STREAMS: dict[str, Any] = {
    "wrong types": [["SubmitGraph", "x", 5]],
    "unknown message": [["NoSuchMessage", 1]],
    "not a list": 5,
    "columns that do not fit": [SubmitGraph(1, [], ["a"], [])],
    "garbage payloads": [SubmitGraph(1, [b"garbage"], ["a"], [b"garbage"])],
    "cycle": [SubmitGraph(1, [dumps(inc)], ["a", "b"], [dumps(((), {}))] * 2, dependencies=[[1], [0]])],
    "payload of a wrong type": [SubmitGraph(1, [5], ["a"], [{"x": 1}])],
    "frames": [SubmitGraph(1, [Frames([b"x"])], ["a"], [Frames([b"y", b"z"])])],
}


@pytest.mark.parametrize("name", STREAMS)
async def test_client_stream_that_makes_no_sense(served: Served, name: str) -> None:
    comm = await connect(served.scheduler.address, timeout=5)
    await comm.write({"op": "register-client", "reply": True, "client": "rogue", "versions": {}})
    await comm.read()
    from headrace.messages import ToClient

    answers: list[Any] = []
    got = asyncio.Event()

    def on_batch(messages):
        answers.extend(messages)
        got.set()

    stream = Stream(comm, ToClient, on_batch, lambda error: got.set())
    comm.send(STREAMS[name])
    async with asyncio.timeout(5):
        await got.wait()
    print("ANSWER", name, str(answers)[:300])
    stream.abort()


async def test_worker_stream_that_makes_no_sense(served: Served) -> None:
    from headrace.messages.worker import AddKeys, LongRunning, MissingData, TaskFailed, TaskFinished

    for nonsense in (
        [TaskFinished("nothing", 1, 5, "int", 0.0, 1.0)],
        [AddKeys(["nothing"])],
        [MissingData("nothing", "tcp://nobody:1")],
        [LongRunning("nothing", 1, 2.0)],
        [TaskFailed("nothing", 1, b"garbage", b"garbage", "", "", 0.0, 1.0)],
        [["Nothing"]],
        5,
    ):
        comm = await connect(served.scheduler.address, timeout=5)
        await comm.write({"op": "register-worker", "reply": True, "address": "tcp://127.0.0.1:1", "nthreads": 1})
        print(await comm.read())
        stream = Stream(comm, ToWorker, lambda _: None, lambda _: None)
        comm.send(nonsense)
        assert await served.client.submit(inc, 1, pure=False, workers=[served.worker.address]) == 2
        stream.abort()
        async with asyncio.timeout(5):
            while len(served.scheduler.workers) > 1:
                await asyncio.sleep(0.005)


async def test_wrong_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    for make in (
        lambda: Client(address, asynchronous=True, timeout=0.3),
        lambda: Worker(address, death_timeout=0.3),
        lambda: Client("tcp://nobody.invalid:8786", asynchronous=True, timeout=0.3),
        lambda: Client("tcp://10.255.255.1:8786", asynchronous=True, timeout=0.3),
        lambda: Client("127.0.0.1:99999999", asynchronous=True, timeout=0.3),
        lambda: Client("127.0.0.1", asynchronous=True, timeout=0.3),
        lambda: Client("ftp://127.0.0.1:4", asynchronous=True, timeout=0.3),
        lambda: Client("not an address", asynchronous=True, timeout=0.3),
        lambda: Client("inproc://1/2/3", asynchronous=True, timeout=0.3),
        lambda: Client(5, asynchronous=True, timeout=0.3),
        lambda: Client("", asynchronous=True, timeout=0.3),
        lambda: Client(scheduler_file="/nowhere/x.json", asynchronous=True, timeout=0.3),
    ):
        start = time.monotonic()
        try:
            thing = await make()
            print("ADDR made", thing)
            await thing.close()
        except Exception as error:
            print("ADDR", round(time.monotonic() - start, 2), type(error).__name__, error)


async def test_silent_server() -> None:
    async def silent(reader: Any, writer: Any) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for make in (
        lambda: Client(f"tcp://127.0.0.1:{port}", asynchronous=True, timeout=0.3),
        lambda: Worker(f"tcp://127.0.0.1:{port}", death_timeout=0.3),
    ):
        try:
            await make()
        except Exception as error:
            print("SILENT", type(error).__name__, error)
    server.close()

    async def http(reader: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(http, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for make in (
        lambda: Client(f"tcp://127.0.0.1:{port}", asynchronous=True, timeout=0.5),
        lambda: Worker(f"tcp://127.0.0.1:{port}", death_timeout=0.5),
    ):
        start = time.monotonic()
        try:
            await make()
        except Exception as error:
            print("HTTP", round(time.monotonic() - start, 2), type(error).__name__, error)
    server.close()


async def test_worker_address_given_to_client(served: Served) -> None:
    try:
        await Client(served.worker.address, asynchronous=True, timeout=1)
    except Exception as e:
        print("WORKER ADDR", type(e), e)


async def test_other_version(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    script = textwrap.dedent(
        f"""
        import asyncio
        from headrace.comm import handshake
        handshake.PROTOCOL_VERSION = 999
        from headrace import Client, Worker

        async def main():
            for make in (lambda: Client({served.scheduler.address!r}, asynchronous=True, timeout=5),
                         lambda: Worker({served.scheduler.address!r}, death_timeout=5)):
                try:
                    await make()
                except Exception as error:
                    print(type(error).__name__, error)

        asyncio.run(main())
        """
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    output, _ = await process.communicate()
    print("VERSION", output.decode(), [r.getMessage() for r in caplog.records])
