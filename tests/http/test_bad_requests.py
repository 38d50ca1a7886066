"""Malformed, hostile and slow callers: the right answer in a sentence, one log line, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator

import pytest

from headrace import Client, Scheduler, Worker
from headrace.http.http_limits import HttpLimits
from headrace.http.http_server import HttpServer
from headrace.http.request_handler import RequestHandler
from headrace.testing.helpers.polling import async_poll_for
from tests.http.http_calls import ask, exchange


class Echo(RequestHandler):
    """Gives the body back, in capitals."""

    def post(self) -> None:
        self.write(self.request.body.upper())

    def get(self) -> None:
        self.write(b"x" * int(self.get_argument("size", "1")))


class Faulty(RequestHandler):
    """Fails."""

    def get(self) -> None:
        raise KeyError("a secret")


class Slow(RequestHandler):
    """Answers never."""

    async def get(self) -> None:
        await asyncio.Event().wait()


ROUTES = [(r"echo", Echo, {}), (r"faulty", Faulty, {}), (r"slow", Slow, {})]
LIMITS = HttpLimits(connections=20, idle_seconds=0.5, request_seconds=0.5, body_bytes=1000)


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with Scheduler(host="127.0.0.1") as scheduler:
        yield scheduler


@pytest.fixture
async def port(scheduler: Scheduler) -> int:
    server = HttpServer(scheduler, modules=["distributed.http.health"], limits=LIMITS)
    server.add_routes(ROUTES)
    server.listen(":0")
    scheduler.http_server = server  # closed with the scheduler
    return server.port


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (b"GARBAGE\r\n\r\n", 400, "nvalid"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "HTTPS"),  # TLS where there is none
        (b"GET /health HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 400, "8190"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400, "8190"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 500 + b"\r\n", 400, "eaders"),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "ength",
        ),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400, "ength"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413, "may have 1000 bytes"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5dc\r\n" + b"a" * 1500, 413, "1000"),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404, "nothing at /nowhere"),
        (b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", 404, "nothing at"),
        (b"GET /<script>alert(1)</script> HTTP/1.1\r\nHost: x\r\n\r\n", 404, "nothing at"),
        (b"DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n", 405, "GET, HEAD"),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, "GET, HEAD"),
        (b"PROPFIND /health HTTP/1.1\r\nHost: x\r\n\r\n", 501, "GET, HEAD"),
        (b"GET /echo?size=x HTTP/1.1\r\nHost: x\r\n\r\n", 500, "ValueError"),
        (b"GET /faulty HTTP/1.1\r\nHost: x\r\n\r\n", 500, "KeyError"),
        (b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n", 504, "within 0.5 s"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", 408, "within 0.5 s"),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nOrigin: https://evil.example\r\n\r\n",
            403,
            "other web sites",
        ),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nSec-Fetch-Site: cross-site\r\n\r\n",
            403,
            "other web",
        ),
    ],
)
async def test_answers(port: int, request_: bytes, status: int, words: str) -> None:
    answer = await exchange(port, request_)
    assert (answer.status, words in answer.text) == (status, True), answer
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "a secret" not in answer.text
    assert (await ask(port, "/health")).body == b"ok"


async def test_what_is_in_order_is_answered(port: int) -> None:
    answer = await ask(port, "/echo", "POST", body=b"abc")
    assert (answer.status, answer.body) == (200, b"ABC")
    same_site = {"Origin": f"http://127.0.0.1:{port}"}
    assert (await ask(port, "/echo", "POST", same_site, b"abc")).body == b"ABC"


async def test_a_thousand_faults_are_a_few_lines_of_log(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "distributed.scheduler"):
        for _ in range(100):
            await exchange(port, b"GARBAGE\r\n\r\n")
            await ask(port, "/faulty")
    lines = [record for record in caplog.records if record.getMessage().startswith("HTTP:")]
    assert 1 <= len(lines) <= 12
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


async def test_connections_that_say_nothing_or_half_a_request_are_closed(port: int) -> None:
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    connections[1][1].write(b"GET /health HTTP/1.1\r\nHost:")
    for reader, writer in connections:
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    ("request_", "answers"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 1),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 3, 3),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 1),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na", 0),
        (b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n", 1),
        (b"GET /hea", 0),
        (b"", 0),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_caller_that_sends_no_more_gets_its_answers(
    port: int, scheduler: Scheduler, request_: bytes, answers: int, at_once: bool
) -> None:
    assert (await ask(port, "/health")).body == b"ok"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_)
    if not at_once:
        await async_poll_for(lambda: len(scheduler.http_server._connections) == 1, timeout=10)
    writer.write_eof()
    assert (await reader.read()).count(b"HTTP/1.1 ") in ({answers} if answers else {0, 1})
    writer.close()
    await async_poll_for(lambda: len(scheduler.http_server._connections) == 0, timeout=10)


async def test_too_many_connections_cost_the_oldest(port: int) -> None:
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
    assert (await ask(port, "/health")).body == b"ok"
    for reader, writer in connections:
        with contextlib.suppress(ConnectionError):  # those that were given up
            await reader.read()
        writer.close()


async def test_a_caller_that_does_not_read_is_given_up(
    port: int, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.http.open_connections.LOOK_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /echo?size=50000000 HTTP/1.1\r\nHost: x\r\n\r\n")
    await async_poll_for(lambda: scheduler.http_server.is_awake, timeout=10)
    await async_poll_for(lambda: len(scheduler.http_server._connections) == 1, timeout=10)
    await async_poll_for(lambda: len(scheduler.http_server._connections) == 0, timeout=20)
    writer.transport.abort()


async def test_slow_connections_do_not_hold_up_work() -> None:
    async with (
        Scheduler(host="127.0.0.1", dashboard_address=":0") as scheduler,
        Worker(scheduler.address, host="127.0.0.1"),
        Client(scheduler.address, asynchronous=True) as client,
    ):
        port = scheduler.http_server.port
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(500)]
        for _, writer in connections:
            writer.write(b"GET /health HTTP/1.1\r\nX-Slow:")
        assert await client.submit(sum, [1, 2]) == 3
        assert (await ask(port, "/health")).body == b"ok"
        for _, writer in connections:
            writer.close()


async def test_many_requests_leave_nothing_behind() -> None:
    async with Scheduler(host="127.0.0.1", dashboard_address=":0") as scheduler:
        port = scheduler.http_server.port

        async def many(count: int) -> None:
            for _ in range(count):
                assert (await ask(port, "/health")).status == 200

        await many(50)
        files = len(os.listdir("/proc/self/fd"))
        await many(500)
        await async_poll_for(lambda: len(scheduler.http_server._connections) == 0, timeout=5)
        assert len(os.listdir("/proc/self/fd")) <= files + 1
