"""The pages of workers through the scheduler: those of connected workers, and nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headrace import Scheduler, Worker
from headrace.http.request_handler import RequestHandler
from headrace.http.routes import worker_proxy
from headrace.testing.clusters import gen_cluster
from tests.http.http_calls import ask


class Mirror(RequestHandler):
    """Tells what came."""

    def get(self, rest: str = "") -> None:
        self.set_header("Set-Cookie", "a=b")
        self.set_header("X-Own", "1")
        told = {"uri": self.request.uri, "method": self.request.method, "body": self.request.body.decode()}
        self.write({**told, "headers": dict(self.request.headers)})

    post = get


class Large(RequestHandler):
    """Answers with as many bytes as asked for."""

    def get(self) -> None:
        self.write(b"x" * int(self.get_argument("size")))


class Elsewhere(RequestHandler):
    """Redirects."""

    def get(self) -> None:
        self.redirect(self.get_argument("to"))


ROUTES = [(r"mirror/(.*)", Mirror, {}), (r"deep/large", Large, {}), (r"deep/elsewhere", Elsewhere, {})]


def path_of(worker: Worker) -> str:
    return f"/proxy/{worker.http_server.port}/127.0.0.1"


@asynccontextmanager
async def pair(prefix: str = "/") -> AsyncIterator[tuple[Any, Any]]:
    async with (
        Scheduler(host="127.0.0.1", dashboard_address=":0", http_prefix=prefix) as scheduler,
        Worker(scheduler.address, host="127.0.0.1", dashboard_address=":0", nthreads=1) as worker,
    ):
        worker.http_server.add_routes(ROUTES)
        yield scheduler, worker


@pytest.mark.parametrize("prefix", ["", "/hub/proxy/x"])
async def test_requests_and_answers_pass(prefix: str) -> None:
    async with pair(prefix or "/") as (scheduler, worker):
        port, path = scheduler.http_server.port, prefix + path_of(worker)
        answer = await ask(port, f"{path}/health")
        assert (answer.status, answer.body) == (200, b"ok")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        head = await ask(port, f"{path}/health", "HEAD")
        assert (head.status, head.headers["content-length"], head.body) == (200, "2", b"")
        assert b"/health" in (await ask(port, f"{path}/sitemap.json")).body
        sent = {"Cookie": "secret=1", "Authorization": "Basic x", "Accept": "text/x", "Content-Type": "text/y"}
        answer = await ask(port, f"{path}/mirror/a%2Fb%20c?d=%26&e", "POST", sent, b"body")
        told = json.loads(answer.body)
        assert (told["uri"], told["method"], told["body"]) == ("/mirror/a%2Fb%20c?d=%26&e", "POST", "body")
        assert not {"Cookie", "Authorization"} & set(told["headers"])
        assert (told["headers"]["Accept"], told["headers"]["Content-Type"]) == ("text/x", "text/y")
        assert not {"set-cookie", "x-own"} & set(answer.headers)
        assert (await ask(port, f"{path}/nowhere")).status == 404


async def test_large_answers_pass_compressed_or_not_and_too_large_ones_are_cut() -> None:
    async with pair() as (scheduler, worker):
        port, path = scheduler.http_server.port, path_of(worker)
        answer = await ask(port, f"{path}/deep/large?size=3000000")
        assert answer.body == b"x" * 3_000_000
        answer = await ask(port, f"{path}/deep/large?size=3000000", headers={"Accept-Encoding": "gzip"})
        assert (answer.headers["content-encoding"], len(answer.body) < 100_000) == ("gzip", True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker_proxy, "MOST_BYTES", 100_000)
            with pytest.raises(asyncio.IncompleteReadError):
                await ask(port, f"{path}/deep/large?size=3000000")
        assert (await ask(port, "/health")).body == b"ok"


async def test_redirects_stay_within_the_worker() -> None:
    async with pair() as (scheduler, worker):
        port, path = scheduler.http_server.port, path_of(worker)
        own = f"http://127.0.0.1:{worker.http_server.port}"
        for to, expected in (
            ("/health", "../health"),
            ("/", "../"),
            ("near", "near"),
            (f"{own}/health?a=1", "../health?a=1"),
            ("https://elsewhere.example/x", "https://elsewhere.example/x"),
        ):
            answer = await ask(port, f"{path}/deep/elsewhere?to={to.replace('?', '%3F')}")
            assert (answer.status, answer.headers["location"]) == (302, expected)


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_only_connected_workers_are_asked(s: Any, a: Worker) -> None:
    port, own = s.http_server.port, a.http_server.port
    rpc = int(a.address.rpartition(":")[2])
    for where, status in (
        (f"{s.http_server.port}/127.0.0.1", 400),
        (f"{rpc}/127.0.0.1", 400),
        (f"{own}/localhost", 400),
        (f"{own}/127.0.0.2", 400),
        (f"{own}/evil.example", 400),
        (f"{own}/127.0.0.1@evil.example", 400),
        (f"{own}/127.0.0.1:80", 400),
        ("99999/127.0.0.1", 400),
        ("0/127.0.0.1", 400),
        (f"{own}/%0d%0aX:y", 400),
        (f"{own}%2F127.0.0.1", 400),
        ("x/127.0.0.1", 404),
        (f"{own}", 404),
    ):
        assert (await ask(port, f"/proxy/{where}/health")).status == status, where
    assert (await ask(port, f"/proxy/{own}/127.0.0.1/health")).status == 200
    assert (await ask(port, f"/proxy/{own}/127.0.0.1/health", "DELETE")).status == 405
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert (await ask(port, f"/proxy/{own}/127.0.0.1/health", "POST", cross)).status == 403
    await a.http_server.close()
    answer = await ask(port, f"/proxy/{own}/127.0.0.1/health")
    assert (answer.status, "cannot be asked" in answer.text) == (502, True)
    await a.close()
    assert (await ask(port, f"/proxy/{own}/127.0.0.1/health")).status == 400


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_a_worker_that_claims_to_be_at_the_schedulers_port_makes_no_loop(s: Any, a: Worker) -> None:
    port = s.http_server.port
    s.shell.core.workers[a.address].services = {"dashboard": port}
    hop = f"/proxy/{port}/127.0.0.1"
    assert (await ask(port, f"{hop}/health")).status == 200
    assert (await ask(port, f"{hop * 100}/health")).status == 508


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
@pytest.mark.parametrize("protocol", ["tcp", "inproc"])
async def test_workers_with_ipv6_and_within_the_process(protocol: str) -> None:
    where = {"host": "::1", "dashboard_address": ":0"} if protocol == "tcp" else {"dashboard_address": ":0"}
    async with (
        Scheduler(protocol=protocol, dashboard=True, **where) as scheduler,
        Worker(scheduler.address, nthreads=1, **({**where, "host": "[::1]"} if protocol == "tcp" else where)) as worker,
    ):
        host = "::1" if protocol == "tcp" else "127.0.0.1"
        port = scheduler.http_server.port
        page = (await ask(port, "/info/main/workers.html", host=host)).text
        (path,) = set(re.findall(r'href="../../(proxy/[^"]+)metrics"', page))
        assert (await ask(port, f"/{path}health", host=host)).body == b"ok"
        for link in re.findall(r'href="../../(info/(?:worker|logs)/[^"]+)"', page):
            assert (await ask(port, f"/{link}", host=host)).status == 200
        assert str(worker.http_server.port) in path
