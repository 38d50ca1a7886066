"""The connections of an HTTP server: how many, since when, and which are closed so that the others can be served.

aiohttp closes those that stay idle. Here are what it leaves: the number of connections, and callers that do not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from headrace.auth.socket_owner import is_same_user

from .http_limits import HttpLimits

#: Seconds between two looks at connections; there are none while there is no connection.
LOOK_SECONDS = 5.0


class _LatestLook:
    """What was seen of a connection at the latest look: bytes unsent, and since when they are as many."""

    __slots__ = ("since", "unsent")

    def __init__(self) -> None:
        self.unsent = 0
        self.since = 0.0


class WatchedConnection(web.RequestHandler):
    """One connection, which tells `OpenConnections` when it begins and when it ends."""

    __slots__ = ("is_same_user_known", "sends_no_more", "watch", "watched")

    def __init__(self, manager: web.Server, watch: OpenConnections, **options: Any) -> None:
        super().__init__(manager, **options)
        self.watch = watch
        self.watched: Any = None
        self.sends_no_more = False
        self.is_same_user_known: bool | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self.watched = transport
        super().connection_made(transport)
        self.watch.add(self)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The caller sends no more: it gets the answers to what it has sent, and then the connection is closed.

        Returns:
            True to keep the connection open until then. With TLS, or within a WebSocket, that cannot be.
        """
        if self._upgraded or self.watched.get_extra_info("sslcontext") is not None:
            return None
        if self._messages:
            self.sends_no_more = bool(self._messages[-1][1].is_eof())
            return self.sends_no_more
        if not self._request_count or (self._waiter is not None and not self._waiter.done()):
            return None  # nothing is asked
        request = self._current_request  # None where its handler is about to start
        if request is not None and not request.content.is_eof():
            return None  # the rest of a body will not come
        self.sends_no_more = True
        self.close()  # after this answer
        return True

    @property
    def own_port(self) -> int:
        """The port that the connection has come to."""
        return int(self.watched.get_extra_info("sockname")[1])

    def is_same_user(self) -> bool:
        """Whether the caller belongs to this process's user, or to root, on this machine; asked of the kernel once."""
        if self.is_same_user_known is None:
            ends = self.watched.get_extra_info("sockname"), self.watched.get_extra_info("peername")
            self.is_same_user_known = is_same_user(*ends)
        return self.is_same_user_known

    @property
    def is_at_last_request(self) -> bool:
        """Whether no request can come after that which is being answered."""
        return self.sends_no_more and not self._messages

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        self.watch.discard(self)
        super().connection_lost(exc)


class OpenConnections:
    """Keeps the number of connections within bounds, and gives up callers that do not read.

    Args:
        limits: of the server.
        is_socket: whether a connection has become a WebSocket.
    """

    def __init__(self, limits: HttpLimits, is_socket: Callable[[Any], bool]) -> None:
        self.limits = limits
        self._is_socket = is_socket
        self._open: dict[WatchedConnection, _LatestLook] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: WatchedConnection) -> None:
        """Note a new connection; close the oldest if there are too many."""
        self._open[connection] = _LatestLook()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
        if len(self._open) > self.limits.connections:
            oldest = next((each for each in self._open if not self._is_socket(each)), connection)
            self._abort(oldest)

    def discard(self, connection: WatchedConnection) -> None:
        """Forget a connection that is gone."""
        self._open.pop(connection, None)
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abort_all(self) -> None:
        """End all connections now."""
        for connection in list(self._open):
            self._abort(connection)

    def _abort(self, connection: WatchedConnection) -> None:
        self._open.pop(connection, None)
        connection.watched.abort()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection, seen in list(self._open.items()):
            unsent = connection.watched.get_write_buffer_size()
            if unsent and unsent == seen.unsent:
                if now - seen.since > self.limits.idle_seconds:
                    self._abort(connection)
            else:
                seen.unsent, seen.since = unsent, now
        self._timer = loop.call_later(LOOK_SECONDS, self._look) if self._open else None
