"""Connecting and listening with WebSockets, on aiohttp; also the base of `wss`, which requires an SSL context.

A location is `host:port/path`; the path is that of a proxy, or one that the listener was given.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.client_proto import ResponseHandler

from headrace.config import CommOptions
from headrace.exceptions import CommClosedError, FatalCommClosedError

from ..addressing import parse_host_port, split_path, unparse_address, unparse_host_port
from ..complaints import Complaints
from ..connections import CommTasks, HandleComm
from ..registry import backends
from ..socket_comm import SocketComm
from ..tcp import SocketConnector, SocketListener, TCPBackend, dropped
from .upgrade import Upgrade
from .websocket_transport import CLOSE_SECONDS, MAX_MESSAGE_BYTES, WebSocketComm, WebSocketTransport

logger = logging.getLogger("distributed.comm.ws")

#: Refusals of HTTP that another attempt may turn into a connection: a timeout, too early, too many requests.
_PASSING = frozenset({408, 425, 429})

#: The readers of the connections that this process has opened.
_tasks = CommTasks()


class ConnectingSide(ResponseHandler):
    """aiohttp's protocol of a connecting end.

    Attributes:
        lost: set when the connection has ended.
        failure: the error with which it ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.lost = asyncio.Event()
        self.failure: BaseException | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note the end; called by the loop."""
        self.failure = exc
        super().connection_lost(exc)
        self.lost.set()


class OneConnection(aiohttp.BaseConnector):
    """Opens connections to one place as the connector of `tcp` does, for one WebSocket.

    aiohttp's own looks up any host, even a number, which kills forked processes (see `bound_sockets`).

    Args:
        host, port: where to connect, after a redirection as well.
        tls: keywords of `create_connection`, whatever a redirection says.
    """

    def __init__(self, host: str, port: int, tls: dict[str, Any]) -> None:
        super().__init__(force_close=True)
        self._place = host, port
        self._tls = tls
        self._url_place: object = None
        self._unused = False
        self.side: ConnectingSide
        self.transport: asyncio.Transport

    async def prepare(self) -> None:
        """Open the connection for the next request.

        Raises:
            OSError: it cannot be made.
        """
        loop = asyncio.get_running_loop()
        self.transport, self.side = await loop.create_connection(
            lambda: ConnectingSide(loop), *self._place, **self._tls
        )
        self._unused = True

    async def _create_connection(self, req: aiohttp.ClientRequest, traces: Any, timeout: Any) -> ResponseHandler:
        place = req.url.host, req.url.port
        if self._url_place not in (None, place):
            raise FatalCommClosedError(f"it redirects to {req.url.with_query(None)}: use that address")
        self._url_place = place
        if not self._unused:
            await self.prepare()
        self._unused = False
        return self.side


class WSConnector(SocketConnector):
    """Connects to `host:port/path`."""

    scheme = "ws"
    encrypted = "wss"
    comm_class = WebSocketComm

    async def open(
        self, comm: SocketComm, address: str, context: ssl.SSLContext | None, arguments: dict[str, Any]
    ) -> None:
        """Connect, and have the connection upgraded to a WebSocket.

        Args:
            arguments: of aiohttp's `ws_connect`, such as `headers`; and `server_hostname`.

        Raises:
            FatalCommClosedError: whoever answers there refuses (HTTP's 4xx).
        """
        assert isinstance(comm, WebSocketComm)
        url = unparse_address(self.scheme, address)
        host, port = parse_host_port(url)
        if host in ("", "0.0.0.0"):
            host = "127.0.0.1"
        server_hostname = arguments.pop("server_hostname", host)
        connector = OneConnection(
            host, port, {} if context is None else {"ssl": context, "server_hostname": server_hostname}
        )
        path = address.partition("/")[2]
        session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
        )
        try:
            await connector.prepare()
            websocket = await session.ws_connect(
                f"{self.scheme}://{unparse_host_port(host, port)}/{path}",
                max_msg_size=MAX_MESSAGE_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                **arguments,
            )
        except aiohttp.ClientError as error:
            await session.close()
            failure = connector.side.failure
            if context is not None and isinstance(error, (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
                if isinstance(failure, ssl.SSLError):
                    raise CommClosedError(f"{url}: {failure}") from failure
                raise dropped(url) from error
            raise _refusal(url, error) from error
        except BaseException:
            await session.close()
            raise
        transport = WebSocketTransport(
            websocket,
            connector.side,
            connector.transport,
            comm,
            message_bytes=CommOptions.from_config().websocket_message_bytes,
            pings=True,
        )
        transport.begin()
        comm.peer_address += split_path(address)[1]
        _tasks.start(_follow(transport, websocket, session), f"connection to {url}")


async def _follow(
    transport: WebSocketTransport, websocket: aiohttp.ClientWebSocketResponse, session: aiohttp.ClientSession
) -> None:
    try:
        await transport.run()
    finally:  # also where the loop ends before the connection does
        await websocket.close()  # does not wait: nothing can be sent any more
        await session.close()


def _refusal(url: str, error: aiohttp.ClientError) -> CommClosedError:
    """What to tell whoever wanted to connect, for what aiohttp says."""
    if isinstance(error.__cause__, FatalCommClosedError):
        return FatalCommClosedError(f"{url}: {error.__cause__}")
    if isinstance(error, aiohttp.WSServerHandshakeError):
        text = f"{url} refuses to open a WebSocket: HTTP status {error.status}"
        if 400 <= error.status < 500 and error.status not in _PASSING:
            hint = "check the address, its path, and what a proxy there expects (Security's extra_conn_args: headers)"
            return FatalCommClosedError(f"{text}; {hint}")
        return CommClosedError(text)
    if isinstance(error, aiohttp.ClientResponseError):
        return CommClosedError(
            f"{url} does not answer as HTTP does ({error.message}): if it is a tcp:// address, use that"
        )
    return CommClosedError(f"{url}: {type(error).__name__}: {error}")


class WSListener(SocketListener):
    """Accepts connections at `host:port/path`; there is no path by default."""

    scheme = "ws"
    encrypted = "wss"
    comm_class = WebSocketComm

    def __init__(self, location: str, handle_comm: HandleComm, deserialize: bool = True, **listen_args: Any) -> None:
        place, path = split_path(location)
        super().__init__(place, handle_comm, deserialize, **listen_args)
        self._path = path
        self._complaints = Complaints(logger)
        self._server: web.Server | None = None
        #: connections that are not WebSockets yet
        self._upgrading: set[Upgrade] = set()

    async def start(self) -> None:
        """Begin to listen, unless the listener does already."""
        if self._server is None:
            self._server = web.Server(self._handle)
        await super().start()

    def stop(self) -> None:
        """Accept no more connections, and drop those that have not shaken hands."""
        super().stop()
        for upgrade in list(self._upgrading):
            upgrade.abort()

    def _make_protocol(self) -> asyncio.BaseProtocol:
        assert self._server is not None
        return Upgrade(
            self._server,
            seconds=self._options.connect_timeout,
            scheme=self.scheme,
            complaints=self._complaints,
            upgrading=self._upgrading,
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; a WebSocket is answered when it has ended."""
        side = request.protocol
        assert isinstance(side, Upgrade)
        websocket = web.WebSocketResponse(timeout=CLOSE_SECONDS, compress=False, max_msg_size=MAX_MESSAGE_BYTES)
        refused = _refused(request, self._path, websocket)
        if refused is not None:
            refused.force_close()
            return refused
        await websocket.prepare(request)
        connection = side.take_over()
        comm = self._make_comm()
        assert isinstance(comm, WebSocketComm)
        transport = WebSocketTransport(
            websocket,
            side,
            connection,
            comm,
            message_bytes=self._options.websocket_message_bytes,
            pings=False,
        )
        transport.begin()
        await transport.run()
        return websocket


def _refused(request: web.BaseRequest, path: str, websocket: web.WebSocketResponse) -> web.Response | None:
    """The answer to a request that is not for a WebSocket at the listener's path, or not from a program like this."""
    headers = request.headers
    if request.path.rstrip("/") != path:
        return _answer(404, f"Nothing of headrace is at this path: its WebSocket is at {path or '/'}.")
    if request.method != "GET":
        return _answer(405, "Only GET, with an upgrade to a WebSocket, is answered here.", {"Allow": "GET"})
    if headers.get("Upgrade", "").lower() != "websocket":
        return _answer(426, _NOT_FOR_BROWSERS, {"Upgrade": "websocket", "Connection": "Upgrade"})
    if "Origin" in headers:
        # A browser's: any page that somebody looks at could connect to schedulers that only this machine reaches.
        return _answer(403, "Pages in browsers may not connect to schedulers and workers.")
    if not websocket.can_prepare(request):
        return _answer(400, "This is no complete handshake of WebSocket version 13.")
    return None


_NOT_FOR_BROWSERS = "This port is for WebSockets of headrace's clients and workers, not for browsers."


def _answer(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=headers)


class WSBackend(TCPBackend):
    """`ws://host:port/path`."""

    scheme = "ws"
    connector = WSConnector
    listener = WSListener

    def get_address_host(self, loc: str) -> str:
        """The host in a location."""
        return parse_host_port(split_path(loc)[0], 0)[0]

    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        """Host and port; that of HTTP if the location names none."""
        return parse_host_port(unparse_address(self.scheme, loc))

    def resolve_address(self, loc: str) -> str:
        """The location with its host name looked up."""
        place, path = split_path(loc)
        return super().resolve_address(place) + path

    def get_local_address_for(self, loc: str) -> str:
        """The address of this host from which the location can be reached."""
        return super().get_local_address_for(split_path(loc)[0])


backends["ws"] = WSBackend()
