"""Comms over TLS: `tcp` with an SSL context at both ends. Each end checks the other's certificate."""

from __future__ import annotations

import ssl
from typing import Any

from headrace.exceptions import MissingCertificatesError

from .registry import backends
from .tcp import SocketConnector, SocketListener, TCPBackend

_REMEDY = (
    "give a Security object with tls_ca_file and the certificate and key of this role, or configure "
    "distributed.comm.tls"
)


class TLSConnector(SocketConnector):
    """Connects to `host:port` with TLS."""

    scheme = "tls"

    def ssl_context(self, location: str, connection_args: dict[str, Any]) -> ssl.SSLContext | None:
        """The context to connect with."""
        context = connection_args.get("ssl_context")
        if not isinstance(context, ssl.SSLContext):
            raise MissingCertificatesError(f"no certificates to connect to tls://{location} with: {_REMEDY}")
        return context


class TLSListener(SocketListener):
    """Accepts connections at `host:port` with TLS."""

    scheme = "tls"

    def ssl_context(self, location: str, listen_args: dict[str, Any]) -> ssl.SSLContext | None:
        """The context to listen with."""
        context = listen_args.get("ssl_context")
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"no certificates to listen at tls://{location} with: {_REMEDY}")
        return context


class TLSBackend(TCPBackend):
    """`tls://host:port`."""

    connector = TLSConnector
    listener = TLSListener


backends["tls"] = TLSBackend()
