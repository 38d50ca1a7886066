"""Another user of this machine asks real servers: what is open to all, and what the token allows that is shown."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import dask.config
import pytest

from headrace import Client, LocalCluster, Nanny, Scheduler, Security, Worker
from headrace.auth.signed_claims import login_code
from headrace.auth.tokens import Tokens, read_only_token
from headrace.http import open_connections
from headrace.http.request_handler import RequestHandler
from tests.http.http_calls import Answer, ask, exchange
from tests.http.strangers import ask_as_stranger, exchange_as_stranger, needs_strangers

TOKEN, NEXT = "a-token-of-the-tests", "the-next-token-of-the-tests"
FULL = {"Authorization": f"Bearer {TOKEN}"}
READ = {"Authorization": f"Bearer {read_only_token(TOKEN)}"}
LOCAL = {"host": "127.0.0.1", "dashboard_address": ":0"}
JSON = {"Content-Type": "application/json"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


class Mine(RequestHandler):
    """A route of a user, who has an argument `login` of his own."""

    def get(self) -> None:
        self.write({"login": self.get_argument("login", ""), "rights": self.request.rights})

    post = get


class ForAll(Mine):
    """The same for everybody."""

    open_to = "all"


def secured(**more: Any) -> dict[str, Any]:
    return {**LOCAL, "security": Security(token=TOKEN), **more}


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with Scheduler(**secured()) as scheduler:
        scheduler.http_server.add_routes([(r"mine", Mine), (r"for-all", ForAll)])
        yield scheduler


@pytest.fixture
def port(scheduler: Scheduler) -> int:
    return int(scheduler.http_server.port)


def code(rights: str = "full", token: str = TOKEN, now: float | None = None) -> str:
    import time

    return login_code(Tokens((token,)), rights, time.time() if now is None else now)


@needs_strangers
async def test_a_stranger_gets_what_his_token_allows(port: int) -> None:
    for path in (
        "/",
        "/status",
        "/json/identity.json",
        "/api/v1/get_workers",
        "/api/v1",
        "/sitemap.json",
        "/info/main/logs.html",
        "/proxy/1/127.0.0.1/status",
        "/eventstream",
        "/api/v2/prometheus-targets",
        "/mine",
        "/nowhere",
    ):
        answer = await ask_as_stranger(port, path)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        assert "Authorization: Bearer TOKEN" in answer.text
        assert "?login=" in answer.text
    for path in ("/health", "/statics/pages.css", "/metrics", "/for-all"):
        assert (await ask_as_stranger(port, path)).status == 200, path
    for headers in (FULL, READ):
        assert b"/metrics" in (await ask_as_stranger(port, "/sitemap.json", headers=headers)).body
        assert (await ask_as_stranger(port, "/status", "HEAD", headers)).status == 200
        assert (await ask_as_stranger(port, "/nowhere", headers=headers)).status == 404
    for wrong in ({"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Cookie": "headrace=1"}):
        assert (await ask_as_stranger(port, "/status", headers=wrong)).status == 401


@needs_strangers
async def test_only_the_full_token_allows_to_change_something(port: int) -> None:
    retire = {"path": "/api/v1/retire_workers", "method": "POST", "body": b'{"n": 0}'}
    for headers, status in (({}, 401), (READ, 403), (FULL, 200)):
        answer = await ask_as_stranger(port, headers={**JSON, **headers}, **retire)  # type: ignore[arg-type]
        assert answer.status == status
        answer = await ask_as_stranger(port, "/mine", "POST", headers)
        assert answer.status == status
    assert "show the full token" in (await ask_as_stranger(port, "/mine", "POST", READ)).text
    assert json.loads((await ask_as_stranger(port, "/mine", headers=READ)).body)["rights"] == "read"
    assert json.loads((await ask_as_stranger(port, "/for-all", "POST")).body)["rights"] == ""
    assert (await ask(port, "/api/v1/retire_workers", "POST", JSON, b'{"n": 0}')).status == 200  # the same user


@needs_strangers
async def test_workers_and_nannies_ask_as_well_and_metrics_are_open_by_a_setting() -> None:
    with dask.config.set({"distributed.dashboard.open-metrics": False}):
        async with (
            Scheduler(**secured()) as scheduler,
            Nanny(scheduler.address, nthreads=1, **secured()) as nanny,
            Worker(scheduler.address, **secured()) as worker,
        ):
            for server in (scheduler, nanny, worker):
                port = server.http_server.port
                for path in ("/metrics", "/sitemap.json"):
                    assert (await ask_as_stranger(port, path)).status == 401
                    assert (await ask_as_stranger(port, path, headers=READ)).status == 200
                    assert (await ask(port, path)).status == 200
                assert (await ask_as_stranger(port, "/health")).body == b"ok"


@needs_strangers
async def test_without_authentication_all_is_open() -> None:
    async with Scheduler(**LOCAL, security=Security(auth="none")) as scheduler:
        scheduler.http_server.add_routes([(r"mine", Mine)])
        port = scheduler.http_server.port
        assert (await ask_as_stranger(port, "/status")).status == 200
        assert (await ask_as_stranger(port, "/status", headers={"Host": f"evil.example:{port}"})).status == 200
        assert (await ask_as_stranger(port, "/api/v1/retire_workers", "POST", JSON, b'{"n": 0}')).status == 200
        answer = await ask_as_stranger(port, f"/mine?login={code()}", "POST")
        assert json.loads(answer.body)["rights"] == "full"


async def test_a_server_without_a_token_admits_its_own_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o644)
    async with Scheduler(**LOCAL, security=Security(token_file=str(file))) as scheduler:
        port = scheduler.http_server.port
        assert (await ask(port, "/status")).status == 200
        assert (await ask(port, "/status", headers={"Host": f"evil.example:{port}", **FULL})).status == 401


# Links and cookies


@needs_strangers
async def test_a_link_logs_a_browser_in_once(port: int) -> None:
    used = code()
    answer = await ask_as_stranger(port, f"/info/main/workers.html?a=%20&login={used}&b")
    assert (answer.status, answer.headers["location"]) == (302, "./workers.html?a=%20&b")
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert attributes == ["Max-Age=2592000", "Path=/", "HttpOnly", "SameSite=Lax"]
    assert cookie.startswith(f"headrace-{port}=full-")
    logged_in = {"Cookie": f"x; {cookie}"}
    assert (await ask_as_stranger(port, "/status", headers=logged_in)).status == 200
    assert (await ask_as_stranger(port, "/mine", "POST", logged_in)).status == 200
    cross_site = {**logged_in, "Sec-Fetch-Site": "cross-site"}
    assert (await ask_as_stranger(port, "/mine", "POST", cross_site)).status == 403
    again = await ask_as_stranger(port, f"/status?login={used}")
    assert (again.status, "used already" in again.text) == (403, True)
    again = await ask_as_stranger(port, f"/status?login={used}", headers=logged_in)  # people click on old links
    assert (again.status, again.headers["location"], "set-cookie" in again.headers) == (302, "./status", False)


@needs_strangers
async def test_links_that_allow_to_read_and_links_of_no_use(port: int) -> None:
    answer = await ask_as_stranger(port, f"/?login={code('read')}")
    assert (answer.status, answer.headers["location"]) == (302, "./")
    reading = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
    assert (await ask_as_stranger(port, "/status", headers=reading)).status == 200
    assert (await ask_as_stranger(port, "/mine", "POST", reading)).status == 403
    for wrong, words in (
        ("x", "not made with the token"),
        (code(token="another-token-of-the-tests"), "not made with the token"),
        (code(now=1000), "has ended"),
    ):
        answer = await ask_as_stranger(port, f"/status?login={wrong}")
        assert (answer.status, words in answer.text) == (403, True)
    assert (await ask_as_stranger(port, f"/status?login={code()}", "HEAD")).status == 401
    assert json.loads((await ask_as_stranger(port, "/mine?login=me", headers=READ)).body)["login"] == "me"
    assert json.loads((await ask(port, "/mine?login=me")).body) == {"login": "me", "rights": "full"}


@needs_strangers
async def test_a_cookie_is_for_the_prefix_and_ends_with_its_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    async with Scheduler(**LOCAL, security=Security(token_file=str(file)), http_prefix="/my/cluster") as scheduler:
        port = scheduler.http_server.port
        answer = await ask_as_stranger(port, f"/my/cluster?login={code()}")
        assert (answer.status, answer.headers["location"]) == (302, "./cluster")
        assert "; Path=/my/cluster;" in answer.headers["set-cookie"]
        assert "; Path=/;" in (await ask_as_stranger(port, f"/status?login={code()}")).headers["set-cookie"]
        cookie = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
        for tokens, status in ((f"{NEXT}\n{TOKEN}\n", 200), (f"{NEXT}\n", 401), (f"{TOKEN}\n{NEXT}\n", 200)):
            file.write_text(tokens)
            assert (await ask_as_stranger(port, "/my/cluster/status", headers=cookie)).status == status
            assert (await ask_as_stranger(port, "/status", headers=FULL)).status == status


@needs_strangers
async def test_over_https_the_same_is_asked_and_cookies_stay_with_it(tmp_path: Path) -> None:
    import ssl

    temporary, file = Security.temporary(), tmp_path / "cert.pem"
    file.write_text(f"{temporary.tls_scheduler_cert}{temporary.tls_scheduler_key}")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with dask.config.set({"distributed.scheduler.dashboard.tls": {"cert": str(file), "key": None}}):
        async with Scheduler(**secured()) as scheduler:
            port = scheduler.http_server.port
            assert (await ask(port, "/status", tls=context)).status == 200
            evil = {"Host": f"evil.example:{port}"}
            assert (await ask(port, "/status", headers=evil, tls=context)).status == 401
            answer = await ask(port, f"/status?login={code()}", headers=evil, tls=context)
            assert answer.status == 302
            assert answer.headers["set-cookie"].endswith("; Secure")


# This user's own connections


@pytest.mark.parametrize("path", ["/status", "/nowhere", "/eventstream"])
async def test_a_browser_that_was_lured_here_is_refused(port: int, path: str) -> None:
    for host in (f"evil.example:{port}", "evil.example:8888", f"127.0.0.1.evil.example:{port}"):
        for headers in ({"Host": host}, {"Host": host, "Sec-Fetch-Site": "same-origin", "Origin": f"http://{host}"}):
            for method in ("GET", "POST"):
                answer = await ask(port, path, method, headers)
                assert (answer.status, "distributed.dashboard.allowed-hosts" in answer.text) == (401, True)
        assert (await ask(port, path, headers={"Host": host, **FULL})).status in (200, 404, 426)
    assert (await ask(port, "/health", headers={"Host": f"evil.example:{port}"})).status == 200


async def test_names_of_this_machine_and_proxies_are_served(port: int) -> None:
    own = socket.gethostname()
    for host in (
        f"localhost:{port}",
        "localhost:1",
        f"[::1]:{port}",
        f"192.0.2.1:{port}",
        f"{own}:{port}",
        "hub.example",
    ):
        assert (await ask(port, "/status", headers={"Host": host})).status == 200, host


async def test_the_kernel_is_asked_once_for_a_connection(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def count(own: Any, peer: Any, real: Any = open_connections.is_same_user) -> Any:
        asked.append(own)
        return real(own, peer)

    monkeypatch.setattr(open_connections, "is_same_user", count)
    async with aiohttp.ClientSession() as session:
        for path, expected in (
            ("/health", 0),
            ("/metrics", 0),
            ("/status", 1),
            ("/json/counts.json", 1),
            ("/status", 1),
        ):
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                assert answer.status == 200
                await answer.read()
            assert len(asked) == expected
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/status", headers=FULL) as answer,
    ):
        assert answer.status == 200
    assert len(asked) == 1


async def test_refusals_are_a_few_lines_of_log_without_what_was_shown(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    shown = {"Host": f"evil.example:{port}", "Authorization": "Bearer of-somebody"}
    with caplog.at_level(logging.DEBUG):
        for _ in range(50):
            assert (await ask(port, "/status?a=of-somebody", headers=shown)).status == 401
    lines = [record.getMessage() for record in caplog.records if "not admitted" in record.getMessage()]
    assert 1 <= len(lines) <= 12
    assert lines[0] == "HTTP: GET /status from 127.0.0.1 is not admitted"
    assert not any("of-somebody" in record.getMessage() for record in caplog.records)


# WebSockets


def socket_request(port: int, headers: dict[str, str]) -> bytes:
    lines = {"Host": f"127.0.0.1:{port}", **UPGRADE, **headers}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    # a message that closes the socket, masked as those of clients are, so that the server ends the connection
    return f"GET /eventstream HTTP/1.1\r\n{text}\r\n".encode() + b"\x88\x82\x00\x00\x00\x00\x03\xe8"


@needs_strangers
async def test_websockets_need_the_same(port: int) -> None:
    async def status(**headers: str) -> int:
        return (await exchange_as_stranger(port, socket_request(port, headers))).status

    assert await status() == 401
    assert await status(Cookie=f"headrace-{port}=x") == 401
    assert await status(**READ) == 101  # it only tells
    assert await status(**FULL) == 101
    assert await status(**FULL, Origin="https://evil.example") == 403
    evil = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}
    assert (await exchange(port, socket_request(port, evil))).status == 401


# Workers behind the scheduler


@needs_strangers
async def test_the_proxy_shows_workers_what_the_visitor_may_and_no_token() -> None:
    class Told(RequestHandler):
        """Tells what came."""

        def get(self) -> None:
            self.write({"rights": self.request.rights, "headers": dict(self.request.headers)})

        post = get

    async with (
        Scheduler(**secured()) as scheduler,
        Worker(scheduler.address, **secured()) as worker,
    ):
        worker.http_server.add_routes([(r"told", Told)])
        # as if the scheduler were on another machine
        worker.http_server.access.names_this_machine = _never
        port, path = scheduler.http_server.port, f"/proxy/{worker.http_server.port}/127.0.0.1/told"
        assert (await ask(worker.http_server.port, "/told")).status == 401
        login = await ask_as_stranger(port, f"/status?login={code()}")
        cookie = {"Cookie": login.headers["set-cookie"].partition(";")[0]}
        for method, headers, status, rights in (
            ("GET", FULL, 200, "full"),
            ("GET", cookie, 200, "full"),
            ("POST", FULL, 200, "full"),
            ("GET", READ, 200, "read"),
            ("POST", READ, 403, ""),
            ("GET", {}, 401, ""),
        ):
            answer = await ask_as_stranger(port, f"{path}?a=%2F&b", method, headers)
            assert answer.status == status, (method, headers)
            if rights:
                told = json.loads(answer.body)
                assert told["rights"] == rights
                assert not {"Cookie", "Authorization"} & set(told["headers"])
                assert TOKEN not in answer.text
                assert read_only_token(TOKEN) not in answer.text
                passed = {"Headrace-Pass": told["headers"]["Headrace-Pass"]}
                own = worker.http_server.port
                assert (await ask_as_stranger(own, "/told", method, passed)).status == 401
                assert (await ask_as_stranger(port, "/status", headers=passed)).status == 401
        text = (await ask_as_stranger(port, "/metrics?workers=1")).text
        assert f'dask_worker_threads{{worker="{worker.address}"}}' in text


async def _never(_: object) -> bool:
    return False


# Links that are shown


def own_address() -> str:
    """An address of this machine beyond loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.200", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])


@needs_strangers
async def test_a_scheduler_beyond_loopback_tells_how_to_log_in_and_not_in_its_own_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "distributed"):
        async with Scheduler(dashboard_address=":0", security=Security(token=TOKEN)) as scheduler:
            port, told = scheduler.http_server.port, str(scheduler.get_logs())
            (line,) = [line for record in caplog.records if "?login=" in (line := record.getMessage())]
            (link,) = re.findall(r"log in at:  (http://[^ ]+/status\?login=[^ ]+) \(once", line)
            assert f"port {port}" in told or str(port) in told
            assert "login=" not in told
            answer = await ask_as_stranger(port, link.partition(f":{port}")[2])
            assert answer.status == 302
            cookie = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
            for path in ("/json/identity.json", "/info/main/logs.html", "/status"):
                page = await ask_as_stranger(port, path, headers=cookie)
                assert (page.status, "login=" in page.text) == (200, False)


@pytest.mark.parametrize("security", [Security(auth="none"), Security(token=TOKEN)])
async def test_no_link_where_none_is_needed(caplog: pytest.LogCaptureFixture, security: Security) -> None:
    where: dict[str, Any] = {"dashboard_address": ":0", "security": security}
    if security.auth is None:
        where["host"] = "127.0.0.1"
    with caplog.at_level(logging.INFO, "distributed"):
        async with (
            Scheduler(**where) as scheduler,
            Client(scheduler.address, asynchronous=True, security=security) as client,
        ):
            assert "login=" not in str(client.dashboard_link)
            assert "login=" not in client._repr_html_()
    assert not [record for record in caplog.records if "login=" in record.getMessage()]


async def test_a_client_shows_a_link_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    security = Security(token=TOKEN)
    async with (
        Scheduler(host=own_address(), dashboard_address=":0", security=security) as scheduler,
        Client(scheduler.address, asynchronous=True, security=security) as client,
    ):
        plain = f"http://{own_address()}:{scheduler.http_server.port}/status"
        assert client.dashboard_link == plain  # here programs of this user need none
        assert f"{plain}?login=full-" in client._repr_html_()
        monkeypatch.setattr("headrace.rpc.dashboard_links.is_of_this_machine", lambda _: False)
        first, second = str(client.dashboard_link), str(client.dashboard_link)
        assert first.startswith(f"{plain}?login=full-")
        assert first != second
        for link, status in ((first, 302), (second, 302)):
            path = link.removeprefix(plain.removesuffix("/status"))
            assert (await ask(scheduler.http_server.port, path, host=own_address())).status == status
        with dask.config.set({"distributed.dashboard.link": "https://hub/{port}/x"}):
            assert client.dashboard_link == f"https://hub/{scheduler.http_server.port}/x"
        client.security = Security(token_file="/nowhere/token")
        assert client.dashboard_link == plain


def test_a_cluster_shows_a_link_to_log_in() -> None:
    keywords = {"n_workers": 0, "processes": False, "dashboard_address": ":0", "security": Security(token=TOKEN)}
    with LocalCluster(host=own_address(), protocol="tcp", **keywords) as cluster, Client(cluster) as client:
        plain = f"http://{own_address()}:{cluster.scheduler.http_server.port}/status"
        assert cluster.dashboard_link == client.dashboard_link == plain
        assert f"{plain}?login=full-" in cluster._repr_html_()
        assert f"{plain}?login=full-" in client._repr_html_()


# A proxy of another user


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Any]:
    """Starts nginx, with workers of another user, in front of a port; returns its own port."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    with contextlib.ExitStack() as stack:

        def start(port: int, more: str) -> int:
            with socket.create_server(("127.0.0.1", 0)) as free:
                own = free.getsockname()[1]
            configuration = tmp_path / "nginx.conf"
            configuration.write_text(f"""
daemon off;
user nobody nogroup;
pid {tmp_path}/pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy; fastcgi_temp_path {tmp_path}/fastcgi;
  uwsgi_temp_path {tmp_path}/uwsgi; scgi_temp_path {tmp_path}/scgi;
  server {{
    listen 127.0.0.1:{own};
    location / {{
      proxy_pass http://127.0.0.1:{port};
      proxy_http_version 1.1;
      {more}
    }}
  }}
}}
""")
            process = subprocess.Popen(["nginx", "-c", str(configuration)], stderr=subprocess.DEVNULL)

            def end() -> None:
                process.terminate()
                process.wait(20)

            stack.callback(end)
            return own

        yield start


async def through(own: int, path: str, **headers: str) -> Answer:
    async def is_up() -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", own)
            writer.close()
            return True
        return False

    for _ in range(1000):
        if await is_up():
            break
        await asyncio.sleep(0.01)
    return await ask(own, path, headers=headers)


@needs_strangers
@pytest.mark.parametrize("shows_token", [False, True])
async def test_a_proxy_of_another_user_needs_the_token(port: int, nginx: Any, shows_token: bool) -> None:
    own = nginx(port, f'proxy_set_header Authorization "Bearer {TOKEN}";' if shows_token else "")
    assert (await through(own, "/health")).body == b"ok"
    assert (await through(own, "/status")).status == (200 if shows_token else 401)
    if not shows_token:  # a visitor may show it, or log in
        assert (await through(own, "/status", **FULL)).status == 200
        answer = await through(own, f"/status?login={code()}")
        assert (answer.status, answer.headers["location"]) == (302, "./status")
        cookie = answer.headers["set-cookie"].partition(";")[0]
        assert (await through(own, "/status", Cookie=cookie)).status == 200
