"""Comms over WebSockets with TLS: `ws` with an SSL context at both ends. Each end checks the other's certificate."""

from __future__ import annotations

import ssl
from typing import Any

from ..registry import backends
from ..tls import connecting_context, listening_context
from .ws import WSBackend, WSConnector, WSListener


class WSSConnector(WSConnector):
    """Connects to `host:port/path` with TLS."""

    scheme = "wss"

    def ssl_context(self, location: str, connection_args: dict[str, Any]) -> ssl.SSLContext | None:
        """The context to connect with."""
        return connecting_context(self.scheme, location, connection_args)


class WSSListener(WSListener):
    """Accepts connections at `host:port/path` with TLS."""

    scheme = "wss"

    def ssl_context(self, location: str, listen_args: dict[str, Any]) -> ssl.SSLContext | None:
        """The context to listen with."""
        return listening_context(self.scheme, location, listen_args)


class WSSBackend(WSBackend):
    """`wss://host:port/path`."""

    scheme = "wss"
    connector = WSSConnector
    listener = WSSListener


backends["wss"] = WSSBackend()
