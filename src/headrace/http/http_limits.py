"""What a request, and all connections together, may take, so that a slow or hostile caller costs nothing but itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of an HTTP server.

    Attributes:
        sockets: WebSockets at once; beyond, none is opened: each is told of all that happens.
        connections: at once; beyond, the oldest that are no WebSockets are closed.
        idle_seconds: until a connection without a whole request is closed.
        request_seconds: for a body to come, and for a handler to answer.
        line_bytes: of the request line and of each header.
        headers: number of headers.
        body_bytes: of a body, and of a message of a WebSocket.
        compress_from: bytes from which on an answer is compressed, if the caller takes that.
        socket_ping_seconds: between two pings on a WebSocket.
    """

    sockets: int = 8
    connections: int = 512
    idle_seconds: float = 30.0
    request_seconds: float = 30.0
    line_bytes: int = 8190
    headers: int = 128
    body_bytes: int = 1 << 20
    compress_from: int = 4096
    socket_ping_seconds: float = 30.0
