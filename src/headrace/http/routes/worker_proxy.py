"""`/proxy/PORT/HOST/...`: the pages of workers, through the scheduler, for those who cannot reach workers.

Only the HTTP servers of workers that are connected are asked: this is no way to anywhere else. A worker is shown what
its visitor may do, by a pass for this one request, and neither the token nor what the visitor has shown.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from headrace import config
from headrace.auth.signed_claims import READ
from headrace.comm.addressing import unparse_host_port
from headrace.http.request_handler import HttpError, RequestHandler, Routes

#: Seconds to reach a worker, and without a word from it.
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 25.0
#: Bytes of an answer that are passed on at most.
MOST_BYTES = 256 << 20
#: Headers that are passed on to a worker. Cookies and passwords are not: workers run anybody's code.
REQUEST_HEADERS = ("Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "If-None-Match", "If-Modified-Since")
#: Value of the header `Via` of requests that are passed on, by which a loop is noticed.
VIA = "1.1 headrace-scheduler"
#: Headers of a worker's answer that are passed on, beside the place of a redirect.
ANSWER_HEADERS = (
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "Content-Security-Policy",
    "Content-Type",
    "ETag",
    "Last-Modified",
    "Refresh",
    "Vary",
)


def worker_serving(scheduler: Any, host: str, port: int) -> Any:
    """The connected worker whose HTTP server is at a host and port.

    Raises:
        HttpError: no connected worker serves HTTP there.
    """
    bare = host.strip("[]")
    for worker in scheduler.workers.values():
        if worker.host == bare and worker.services.get("dashboard") == port:
            return worker
    raise HttpError(400, f"no connected worker serves HTTP at {host[:100]}, port {port}")


def worker_location(scheduler: Any, host: str, port: int) -> tuple[str, int]:
    """Host and port of the HTTP server of a connected worker.

    Raises:
        HttpError: as of `worker_serving`.
    """
    return _location(worker_serving(scheduler, host, port), port)


def _location(worker: Any, port: int) -> tuple[str, int]:
    # a worker of this process listens on loopback
    return ("127.0.0.1" if worker.address.startswith("inproc://") else worker.host), port


def worker_tls() -> ssl.SSLContext | bool:
    """How to trust the HTTPS of workers, which have the certificate of the configuration; True without one."""
    tls = "distributed.scheduler.dashboard.tls"
    trusted = [str(path) for name in ("cert", "ca-file") if (path := config.get(f"{tls}.{name}", None))]
    if not trusted:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # workers are known by addresses; their certificate is this server's own
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for path in trusted:
        context.load_verify_locations(path)
    return context


class ProxyHandler(RequestHandler):
    """Passes requests on to a worker's HTTP server, and its answers back."""

    async def get(self, port: str, host: str, path: str) -> None:
        """Ask the worker the same."""
        if VIA in self.request.headers.get("Via", ""):  # a worker that claims to be at a scheduler's port
            raise HttpError(508, "this request has come through the proxy of a scheduler already")
        worker = worker_serving(self.server, host, int(port))
        where = _location(worker, int(port))
        tls = worker_tls()
        scheme = "http" if tls is True else "https"
        parts = self.local_path.lstrip("/").split("/", 3)  # as it was sent: what was quoted stays so
        if len(parts) < 4:
            raise HttpError(400, "write the slashes of the path as they are, not quoted")
        target = f"/{parts[3]}"
        if self.request.query:
            target += f"?{self.request.query}"
        url = f"{scheme}://{unparse_host_port(*where)}{target}"
        headers = {name: self.request.headers[name] for name in REQUEST_HEADERS if name in self.request.headers}
        headers["Via"] = VIA
        access = self.server.http_server.access
        headers |= access.pass_for(worker.address, self.request.rights or READ, self.request.method, target)
        session = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS),
        )
        try:
            answer = await session.request(
                self.request.method,
                URL(url, encoded=True),  # what was quoted stays so
                data=self.request.body or None,
                headers=headers,
                allow_redirects=False,
                ssl=tls,
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            await session.close()
            raise HttpError(502, f"the worker at {host}, port {port}, cannot be asked: {error}") from None
        except BaseException:
            await session.close()
            raise
        self.set_status(answer.status)
        for name in ANSWER_HEADERS:
            for value in answer.headers.getall(name, ()):
                self.add_header(name, value)
        if "Location" in answer.headers:
            self.set_header("Location", _relative(answer.headers["Location"], where, parts[3]))
        self.stream = WorkerAnswer(session, answer)

    head = post = get


def _relative(location: str, where: tuple[str, int], path: str) -> str:
    """The place of a redirect as seen from the page that is asked for; one that leads elsewhere stays as it is."""
    parts = urlsplit(location)
    if parts.netloc and parts.netloc != unparse_host_port(*where):
        return location
    if not parts.netloc and not location.startswith("/"):
        return location
    target = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    return "../" * path.count("/") + target or "./"


class WorkerAnswer:
    """A worker's answer piece by piece; cut off where it is too large, or does not go on."""

    def __init__(self, session: aiohttp.ClientSession, answer: aiohttp.ClientResponse) -> None:
        self._session = session
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in self._answer.content.iter_chunked(1 << 16):
                size += len(piece)
                if size > MOST_BYTES:
                    raise ConnectionError(f"a worker's answer has more than {MOST_BYTES} bytes")
                yield piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConnectionError(f"a worker's answer ends too early: {error}") from error

    async def aclose(self) -> None:
        """Give the connection up."""
        self._answer.close()
        await self._session.close()


routes: Routes = [(r"proxy/(\d{1,5})/([^/]+)/(.*)", ProxyHandler, {})]
