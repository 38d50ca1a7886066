"""The HTTP server of a scheduler, worker or nanny. Until somebody connects it is a listening socket and nothing else.

At the first connection, which waits in the kernel's queue meanwhile, a thread imports aiohttp and the routes; then
aiohttp's server takes the sockets over. It runs on the loop of its owner.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace import config
from headrace.auth.signed_claims import FULL, link_with_code, login_code
from headrace.auth.token_places import REMEDY
from headrace.comm import get_address_host
from headrace.comm.addressing import unparse_host_port
from headrace.comm.complaints import Complaints
from headrace.comm.sockets import is_loopback
from headrace.containment import log_raised
from headrace.rpc.dashboard_links import format_dashboard_link
from headrace.rpc.server_life import Node

from .http_access import HttpAccess
from .http_limits import HttpLimits
from .http_places import EVERYWHERE, bound_sockets, places_of
from .route_tables import Route, check_modules, configured_modules, route_of, table_of

if TYPE_CHECKING:
    from .open_connections import OpenConnections
    from .request_dispatch import Dispatcher

login_logger = logging.getLogger("distributed.http")

#: Seconds that callers have, once the server closes, to get what they are being answered.
CLOSE_SECONDS = 2.0


def configured_tls_files() -> dict[str, str | None]:
    """The files by `distributed.scheduler.dashboard.tls`, by the names "ca-file", "cert" and "key"."""
    return {
        name: config.get(f"distributed.scheduler.dashboard.tls.{name}", None) for name in ("ca-file", "cert", "key")
    }


def configured_tls() -> ssl.SSLContext | None:
    """The TLS settings of HTTP servers by `distributed.scheduler.dashboard.tls`; None if no certificate is configured.

    Raises:
        ValueError: a file cannot be read as what it should be; the message names the key and the file.
    """
    files = configured_tls_files()
    if not files["cert"]:
        return None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(files["cert"]), str(files["key"]) if files["key"] else None)
        if files["ca-file"]:
            context.load_verify_locations(str(files["ca-file"]))  # the chain above the certificate
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(f"{name}: {path}" for name, path in files.items() if path)
        raise ValueError(f"distributed.scheduler.dashboard.tls: the files cannot be used ({named}): {error}") from error
    return context


class HttpServer:
    """Listens for HTTP, and answers.

    Args:
        owner: the Scheduler, Worker or Nanny.
        prefix: path under which pages are served, beside the root.
        pages: whether there are pages for people; without, what machines ask for stays.
        modules: names of modules of routes; None for those of the configuration.
        limits: what requests may take.
        tls: for https.

    Attributes:
        port: of the first place; 0 before it listens.
        address: host of the first place, "" for all interfaces.
        places: host and port of each socket that listens.
        prefix: without slashes around it, with percent signs for what a path cannot have.
    """

    def __init__(
        self,
        owner: Node,
        *,
        prefix: str | None = "/",
        pages: bool = True,
        modules: Iterable[str] | None = None,
        limits: HttpLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        kind = str(owner.kind).lower()
        self.owner = owner
        #: the metrics of the owner, from the first scrape on
        self.metrics: Any = None
        self.prefix = quoted_path(str(prefix or "").strip("/"))
        self.pages = pages
        self.modules = list(configured_modules(kind, pages) if modules is None else modules)
        self.limits = limits or HttpLimits()
        self.tls = tls
        self.access = HttpAccess(owner.connection_args["access_rules"], lambda: owner.address)
        self.port = 0
        self.places: list[tuple[str, int]] = []
        self.address = ""
        self.logger = logging.getLogger(f"distributed.{kind}")
        #: routes that were added by `add_routes`
        self._added: list[Route] = []
        self._servers: list[asyncio.Server] = []
        #: sockets at which nobody has connected yet, and the tasks that open them to aiohttp
        self._waiting: list[socket.socket] = []
        self._waking: set[asyncio.Task[None]] = set()
        self._make_connection: Callable[[], asyncio.Protocol] | None = None
        self._aiohttp_server: Any = None
        self._dispatcher: Dispatcher | None = None
        self._connections: OpenConnections | None = None
        check_modules(self.modules)

    @property
    def scheme(self) -> str:
        """ "http" or "https"."""
        return "https" if self.tls is not None else "http"

    @property
    def announcements(self) -> list[str]:
        """Lines for the log: where it listens, and that it does for others than this machine."""
        everywhere = any(host in EVERYWHERE for host, _ in self.places)
        host = get_address_host(self.owner.address) if everywhere else self.places[0][0]
        if self.pages:
            lines = [f"  dashboard at:  {format_dashboard_link(host, self.port)}"]
        else:
            lines = [f"  HTTP at:  {self.scheme}://{unparse_host_port(host, self.port)}"]
        if everywhere:
            whom = "those who hold the token" if self.access.asks else "whoever can reach them"
            lines.append(f"  HTTP is served on all interfaces, to {whom}")
        return lines

    def announce_login(self) -> None:
        """Log a link with which a browser on another machine can log in.

        By a logger of its own, since the server's log is shown to whoever may only read.
        """
        if not self.access.asks or not self.pages or all(is_loopback(host) for host, _ in self.places):
            return
        everywhere = any(host in EVERYWHERE for host, _ in self.places)
        beyond = next(host for host, _ in self.places if not is_loopback(host))
        link = format_dashboard_link(get_address_host(self.owner.address) if everywhere else beyond, self.port)
        tokens = self.access.tokens()
        if tokens:
            code = login_code(tokens, FULL, time.time())
            login_logger.info("  log in at:  %s (once, within ten minutes)", link_with_code(link, code))
        else:
            login_logger.warning("  nobody can log in at the dashboard: %s; %s", tokens.problem, REMEDY)

    @property
    def is_awake(self) -> bool:
        """Whether somebody has connected, so that aiohttp is loaded."""
        return bool(self._servers)

    @property
    def paths(self) -> list[str]:
        """The paths that are answered, as patterns, in alphabetical order; none before somebody has connected."""
        table = self._dispatcher.table if self._dispatcher is not None else []
        shown = [path for route in table for path in route.handler.paths_of(route.shown)]
        return sorted({f"/{self.prefix}/{path}".replace("//", "/") for path in shown})

    def listen(self, given: object = True, default_port: int = 0) -> None:
        """Listen, beside where it does already.

        Where a place's port is taken, another is, and the log says so.

        Args:
            given: as `places_of` takes it.
            default_port: where `given` names no port.

        Raises:
            ValueError: `given` is malformed.
            OSError: the host is none of this machine's, or there is no free port.
        """
        own_host = host_beside(self.owner)
        for place in places_of(given, default_port):
            sockets, taken = bound_sockets(place, own_host)
            host = own_host if place.host is None else place.host
            port = sockets[0].getsockname()[1]
            if taken:
                asked = place.ports[0] if len(place.ports) == 1 else f"{place.ports[0]}-{place.ports[-1]}"
                warnings.warn(
                    f"Port {asked} cannot be had for HTTP ({taken}); perhaps another cluster runs here. The "
                    f"{str(self.owner.kind).lower()} serves it at port {port} instead",
                    UserWarning,
                    stacklevel=2,
                )
            if not self.places:
                self.port, self.address = port, "" if host in EVERYWHERE else host
            self.places += [each.getsockname()[:2] for each in sockets]
            self._waiting += sockets
            loop = asyncio.get_running_loop()
            for each in sockets:
                loop.add_reader(each.fileno(), self._wake)

    def add_routes(self, entries: Iterable[Any]) -> None:
        """Answer further routes from now on.

        Args:
            entries: `(pattern, handler class, keywords)` each.

        Raises:
            TypeError, ValueError: as of `routes_of_module`.
        """
        added = [route_of(entry, "start_http_server") for entry in entries]
        self._added += added
        if self._dispatcher is not None:
            self._dispatcher.table += added

    # From the first connection on

    def _wake(self) -> None:
        """Somebody connects to a socket for the first time."""
        waiting = self._stop_waiting()
        task = asyncio.ensure_future(self._serve(waiting))
        self._waking.add(task)
        task.add_done_callback(self._waking.discard)

        def close_if_cancelled(done: asyncio.Task[None]) -> None:
            if done.cancelled():  # perhaps before its first step, so that it has closed nothing
                for each in waiting:
                    each.close()

        task.add_done_callback(close_if_cancelled)

    def _stop_waiting(self) -> list[socket.socket]:
        """Wait for first connections no more; returns the sockets at which that was done."""
        waiting, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        for each in waiting:
            loop.remove_reader(each.fileno())
        return waiting

    async def _serve(self, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._make_connection is None:
                table = await asyncio.to_thread(self._load)
                self._make_connection = self._make_connection or self._prepare(table)
            for each in sockets:
                options: dict[str, Any] = {"ssl": self.tls, "ssl_handshake_timeout": 10} if self.tls else {}
                self._servers.append(await loop.create_server(self._make_connection, sock=each, **options))
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            for each in sockets:
                each.close()
            log_raised(self.logger, error, "HTTP cannot be served at port %s", self.port)

    def _load(self) -> list[Route]:
        """Import what serves, in a thread; returns the table of routes."""
        for module in ("aiohttp.web", "headrace.http.request_dispatch", "headrace.http.open_connections"):
            import_module(module)
        return table_of(self.modules)

    def _prepare(self, table: list[Route]) -> Callable[[], asyncio.Protocol]:
        """Make aiohttp's server, once what serves is imported; returns what makes a connection."""
        from aiohttp.web import Server

        from .open_connections import OpenConnections, WatchedConnection
        from .request_dispatch import Dispatcher

        limits = self.limits
        dispatcher = self._dispatcher = Dispatcher(
            self.owner, table + self._added, self.prefix, self.access, limits, self.logger
        )
        server = self._aiohttp_server = Server(dispatcher.answer, handler_cancellation=True)
        watch = self._connections = OpenConnections(limits, dispatcher.sockets.__contains__)
        return partial(
            WatchedConnection,
            server,
            watch,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.idle_seconds,
            logger=_FaultsOfCallers(dispatcher.complaints),
            access_log=None,
            max_line_size=limits.line_bytes,
            max_field_size=limits.line_bytes,
            max_headers=limits.headers,
            lingering_time=1.0,
            auto_decompress=False,
        )

    # The end

    def stop(self) -> None:
        """Accept no more connections. (`close` ends those that there are.)"""
        for task in self._waking:
            task.cancel()
        for server in self._servers:
            server.close()
        for each in self._stop_waiting():
            each.close()

    async def close(self) -> None:
        """Accept no more connections, and end those that there are once they have their answers."""
        self.stop()
        if self._waking:
            await asyncio.wait(list(self._waking))
            self.stop()  # what a task that could not be cancelled any more has opened
        dispatcher = self._dispatcher
        if dispatcher is not None:
            sockets = list(dispatcher.sockets.values())
            await asyncio.gather(*[each.close(code=1001, drain=False) for each in sockets], return_exceptions=True)
            self._aiohttp_server.pre_shutdown()
            await self._aiohttp_server.shutdown(CLOSE_SECONDS)
            assert self._connections is not None
            self._connections.abort_all()


def host_beside(owner: Node) -> str:
    """The host at which a server listens itself, "" for all interfaces; loopback if it does within its process only."""
    try:
        address = str(owner.listen_address)
        if address.startswith("inproc://"):
            return "127.0.0.1"
        host = get_address_host(address)
    except ValueError:
        return "127.0.0.1"
    return "" if host in EVERYWHERE else host


def quoted_path(path: str) -> str:
    """A path as it is sent: with percent signs for what it cannot have; those that it has already stay.

    >>> quoted_path("a b/%7Eme")
    'a%20b/%7Eme'
    """
    return quote(path, safe="/%~:@!$&'()*+,;=", errors="replace")


class _FaultsOfCallers:
    """A logger for aiohttp, which logs each malformed request with a trace: here it gets a line a second at most."""

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints

    def exception(self, text: str, *args: object, exc_info: Any = None, **_: object) -> None:
        """Log that a request was malformed."""
        where = str(args[0]) if args else "?"
        about = getattr(exc_info, "message", None) or type(exc_info).__name__
        first = str(about).strip().splitlines() or ["malformed"]
        self._complaints.say("a malformed request", where, "HTTP: a malformed request from %s: %.200s", where, first[0])

    error = warning = exception

    def debug(self, *_: object, **__: object) -> None:
        """Log nothing: aiohttp tells of each caller that went away."""

    info = debug
