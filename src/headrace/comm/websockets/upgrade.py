"""The accepting end of a connection from its first byte to the upgrade to a WebSocket, within limits of time and size.

A peer that is slow, or does not speak HTTP, costs a timer and at most one line in the log.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import web

from ..complaints import Complaints
from ..sockets import address_text

#: Bytes of a request, with all its headers.
MAX_REQUEST_BYTES = 64 * 1024
#: Bytes of a line, and of a header.
MAX_LINE_BYTES = 8190


class Upgrade(web.RequestHandler):
    """aiohttp's protocol of an accepted connection.

    Args:
        server: has the handler of requests.
        seconds: time for the upgrade.
        scheme: of the listener, for the log.
        complaints: writes the log lines about peers.
        upgrading: the listener's connections that are not WebSockets yet; this one keeps its place there.

    Attributes:
        lost: set when the connection has ended.
        failure: the error with which it ended.
    """

    def __init__(
        self, server: web.Server, *, seconds: float, scheme: str, complaints: Complaints, upgrading: set[Upgrade]
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=cast(Any, None),
            lingering_time=0,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
        )
        self.lost = asyncio.Event()
        self.failure: BaseException | None = None
        self._seconds = seconds
        self._scheme = scheme
        self._complaints = complaints
        self._upgrading_ones = upgrading
        self._request_bytes = 0
        self._opened = False
        self._timer: asyncio.TimerHandle | None = None
        self._connection: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request; called by the loop."""
        self._connection = cast(asyncio.Transport, transport)
        self._upgrading_ones.add(self)
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._too_slow)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take what came, if it is not too much for a request; called by the loop."""
        if not self._opened:
            self._request_bytes += len(data)
            if self._request_bytes > MAX_REQUEST_BYTES:
                self._say("too long a request", f"more than {MAX_REQUEST_BYTES} bytes came before the upgrade")
                self.abort()
                return
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note the end; called by the loop."""
        self.failure = exc
        self._settle()
        super().connection_lost(exc)
        self._connection = None
        self.lost.set()

    def take_over(self) -> asyncio.Transport:
        """The connection's transport, from the moment on at which it is a WebSocket."""
        assert self._connection is not None
        self._opened = True
        self._settle()
        return self._connection

    def abort(self) -> None:
        """Close at once."""
        if self._connection is not None:
            self._connection.abort()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is not HTTP, or is too long, in one sentence."""
        if status >= 500:
            self._say("a request that could not be handled", str(exc), error=exc)
        else:
            self._say("no HTTP", f"it sends no request of HTTP that can be understood ({type(exc).__name__})")
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        answer = web.Response(status=status, text="This is no request that can be understood here.\n")
        answer.force_close()
        return answer

    def _too_slow(self) -> None:
        self._say("no handshake", "no request for a WebSocket came in time")
        self.abort()

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._upgrading_ones.discard(self)

    def _say(self, kind: str, reason: str, error: BaseException | None = None) -> None:
        peer = address_text(
            self._scheme, None if self._connection is None else self._connection.get_extra_info("peername")
        )
        self._complaints.say(kind, peer, "Closing the connection from %s: %s", peer, reason, error=error)
