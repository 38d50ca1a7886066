"""Modules of routes as users write them: found by the configuration, and run as they are."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import pytest

from headrace import Scheduler, Worker
from headrace.testing.clusters import gen_cluster
from tests.http.http_calls import Answer, ask

MODULE = """
import asyncio
import json

from distributed.http.utils import RequestHandler, redirect


class Mine(RequestHandler):
    def initialize(self, dask_server=None, x=None):
        self.dask_server = dask_server
        self.x = x

    def get(self, rest):
        self.set_header("X-Mine", 1)
        same = self.dask_server is self.server
        self.write({"rest": rest, "x": self.x, "address": self.dask_server.address, "same": same})


class Inherits(RequestHandler):
    def initialize(self, x=None, **kwargs):
        super().initialize(**kwargs)
        self.x = x

    async def prepare(self):
        await asyncio.sleep(0)
        self.prepared = True

    async def get(self):
        await asyncio.sleep(0)
        self.write("prepared" if self.prepared else "no")
        await self.flush()
        self.write(b" bytes")
        await self.finish(" end")


class Asked(RequestHandler):
    def get(self):
        request = self.request
        self.write(json.dumps({
            "a": self.get_argument("a"),
            "all": self.get_arguments("a"),
            "query": self.get_query_argument("b", "none"),
            "default": self.get_argument("c", default=None),
            "raw": {name: [value.decode() for value in values] for name, values in request.arguments.items()},
            "uri": request.uri, "path": request.path, "query_text": request.query, "url": request.full_url(),
            "ip": request.remote_ip, "method": request.method, "agent": request.headers.get("user-agent"),
            "protocol": request.protocol, "version": request.version, "cookie": self.get_cookie("k"),
            "no_cookie": self.get_cookie("z"),
        }))

    def post(self):
        self.write(json.dumps({
            "form": self.get_body_arguments("f"), "last": self.get_argument("f"), "body": self.request.body.decode(),
        }))

    def put(self):
        data = json.loads(self.request.body)
        self.set_status(201, "Made")
        self.write({"got": data})

    def delete(self):
        self.set_status(204)


class Cookies(RequestHandler):
    def get(self):
        self.set_cookie("k", "v", httponly=True)
        self.clear_cookie("old")


class Cors(RequestHandler):
    accepts_cross_site = True

    def set_default_headers(self):
        self.set_header("Access-Control-Allow-Origin", "*")

    def options(self):
        self.set_status(204)

    def get(self):
        raise ValueError("inside")

    def post(self):
        self.write("posted")


class Status(RequestHandler):
    def write_error(self, status_code, **kwargs):
        self.finish(f"own page for {status_code} {kwargs['exc_info'][0].__name__}")

    def get(self, status):
        error = type("HTTPError", (Exception,), {"status_code": int(status), "reason": None})
        raise error("hidden")


class Sends(RequestHandler):
    def get(self):
        self.write("lost")
        try:
            self.send_error(418, reason="a teapot")
        except Exception:
            self.write("not here")

    def post(self):
        self.render("x.html", a=1)


class Named(RequestHandler):
    def get(self, second, first=None):
        self.write({"first": first, "second": second})


class Optional(RequestHandler):
    def get(self, tail=None):
        self.write({"tail": tail})


class Ends(RequestHandler):
    ended = []

    def get(self):
        self.redirect("elsewhere")
        return

    def on_finish(self):
        self.ended.append(self.request.path)


class Unreachable(RequestHandler):
    def get(self):
        raise ConnectionRefusedError("of another server")


class Cancelled(RequestHandler):
    async def get(self):
        raise asyncio.CancelledError


routes = [
    (r"mine/(.*)", Mine, {"x": 1}),
    (r"/slash/inherits/?$", Inherits, {"x": 2}),
    (r"^asked", Asked, {}),
    (r"cookies", Cookies),
    (r"cors", Cors, None),
    (r"status/(\\d+)", Status, {}),
    (r"sends", Sends, {}),
    (r"named/(?P<first>[^/]+)/(?P<second>.+)", Named, {}),
    (r"optional(?:/(.*))?", Optional, {}),
    (r"ends", Ends, {}),
    (r"unreachable", Unreachable, {}),
    (r"cancelled", Cancelled, {}),
    (r"old", redirect("mine/x"), {}),
]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "users_own_routes.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with dask.config.set({"distributed.scheduler.http.routes": ["users_own_routes", "distributed.http.health"]}):
        yield "users_own_routes"
    sys.modules.pop("users_own_routes", None)


@pytest.fixture
async def scheduler(module: str) -> Any:
    async with Scheduler(host="127.0.0.1", dashboard_address=":0", http_prefix="/pre") as scheduler:
        yield scheduler


async def got(scheduler: Any, path: str, *more: Any, **options: Any) -> Answer:
    return await ask(scheduler.http_server.port, path, *more, **options)


async def test_arguments_of_the_route_and_the_server(scheduler: Any) -> None:
    for prefix in ("", "/pre"):
        answer = await got(scheduler, f"{prefix}/mine/a%2Fb%20c%2525")
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.headers["x-mine"] == "1"
        assert json.loads(answer.body) == {"rest": "a/b c%25", "x": 1, "address": scheduler.address, "same": True}
    assert (await got(scheduler, "/slash/inherits")).text == "prepared bytes end"
    assert (await got(scheduler, "/slash/inherits/")).text == "prepared bytes end"
    assert json.loads((await got(scheduler, "/named/1/2/3")).body) == {"first": "1", "second": "2/3"}
    assert json.loads((await got(scheduler, "/optional")).body) == {"tail": None}
    assert json.loads((await got(scheduler, "/optional/")).body) == {"tail": ""}
    assert (await got(scheduler, "/health")).text == "ok"


async def test_what_a_handler_may_ask_of_the_request(scheduler: Any) -> None:
    port = scheduler.http_server.port
    headers = {"User-Agent": "me", "Cookie": "k=v; other=1"}
    told = json.loads((await got(scheduler, "/asked?a=1&a=+2+&b=%C3%BC", headers=headers)).body)
    assert (told["a"], told["all"], told["query"], told["default"]) == ("2", ["1", "2"], "ü", None)
    assert told["raw"] == {"a": ["1", " 2 "], "b": ["ü"]}
    assert told["uri"] == "/asked?a=1&a=+2+&b=%C3%BC"
    assert told["url"] == f"http://127.0.0.1:{port}/asked?a=1&a=+2+&b=%C3%BC"
    assert (told["path"], told["ip"], told["method"], told["agent"]) == ("/asked", "127.0.0.1", "GET", "me")
    assert (told["protocol"], told["version"], told["cookie"], told["no_cookie"]) == ("http", "HTTP/1.1", "v", None)
    missing = await got(scheduler, "/asked")
    assert (missing.status, "'a' is missing" in missing.text) == (400, True)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    told = json.loads((await got(scheduler, "/asked", "POST", form, b"f=1&f=%20x")).body)
    assert told == {"form": ["1", "x"], "last": "x", "body": "f=1&f=%20x"}


async def test_what_a_handler_may_answer(scheduler: Any) -> None:
    answer = await got(scheduler, "/asked", "PUT", body=b'{"x": [1]}')
    assert (answer.status, json.loads(answer.body)) == (201, {"got": {"x": [1]}})
    answer = await got(scheduler, "/asked", "DELETE")
    assert (answer.status, answer.body) == (204, b"")
    assert (await got(scheduler, "/asked", "PATCH")).status == 405
    answer = await got(scheduler, "/cookies")
    assert "old=" in answer.headers["set-cookie"]
    answer = await got(scheduler, "/old")
    assert (answer.status, answer.headers["location"]) == (302, "mine/x")
    answer = await got(scheduler, "/ends")
    assert (answer.status, answer.headers["location"]) == (302, "elsewhere")
    assert sys.modules["users_own_routes"].Ends.ended == ["/ends"]


async def test_other_sites_only_where_a_handler_says_so(scheduler: Any) -> None:
    cross = {"Origin": "https://hub.example", "Sec-Fetch-Site": "cross-site"}
    answer = await got(scheduler, "/cors", "POST", cross)
    assert (answer.text, answer.headers["access-control-allow-origin"]) == ("posted", "*")
    assert (await got(scheduler, "/cors", "OPTIONS", cross)).status == 204
    assert (await got(scheduler, "/asked", "POST", cross)).status == 403


async def test_errors(scheduler: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "distributed.scheduler"):
        answer = await got(scheduler, "/cors")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (500, "*")
        assert "ValueError while answering" in answer.text
        assert "inside" not in answer.text
        await asyncio.sleep(0)
        assert len([record for record in caplog.records if "GET /cors" in record.getMessage()]) == 1
        answer = await got(scheduler, "/status/404")
        assert (answer.status, answer.text) == (404, "own page for 404 HTTPError")
        assert not [record for record in caplog.records if "/status" in record.getMessage()]
        answer = await got(scheduler, "/status/302")
        assert (answer.status, answer.text) == (500, "own page for 500 HTTPError")
        answer = await got(scheduler, "/sends")
        assert (answer.status, answer.text) == (418, "418: a teapot\n")
        assert (await got(scheduler, "/sends", "POST")).status == 500
        assert (await got(scheduler, "/unreachable")).status == 500
        assert (await got(scheduler, "/cancelled")).status == 500
        assert (await got(scheduler, "/health")).text == "ok"


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_routes_that_are_added_while_a_server_runs(s: Any, a: Worker) -> None:
    from distributed.http.routing import RoutingApplication
    from distributed.http.utils import RequestHandler, get_handlers

    class Own(RequestHandler):
        def get(self) -> None:
            self.write("own")

    for server in (s, a):
        application = server.http_application
        assert application.applications == []
        assert application is server.http_application
        other = RoutingApplication([(r"/own", Own, {})])
        application.add_application(other)
        assert application.applications == [other]
        assert (await ask(server.http_server.port, "/own")).text == "own"
        application.add_handlers(".*", [(r"/more", Own)])
        assert (await ask(server.http_server.port, "/more")).text == "own"
        application.add_handlers(".*", [(r"/given", Own, {"dask_server": server})])
        assert (await ask(server.http_server.port, "/given")).text == "own"
        with pytest.raises(TypeError, match=r"builtins\.object is no application"):
            application.add_application(object())
    routes = get_handlers(s, ["distributed.http.health"], prefix="/pre")
    assert [(pattern, keywords) for pattern, _, keywords in routes] == [("/pre/health", {})]
    a.start_http_server(routes, None)
    assert (await ask(a.http_server.port, "/pre/health")).text == "ok"


async def test_an_application_of_a_server_without_http() -> None:
    async with Scheduler(host="127.0.0.1") as scheduler:
        with pytest.raises(ValueError, match="serves no HTTP"):
            _ = scheduler.http_application
