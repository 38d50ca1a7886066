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


def connecting_context(scheme: str, location: str, connection_args: dict[str, Any]) -> ssl.SSLContext:
    """The context to connect with.

    Raises:
        MissingCertificatesError: there is none.
    """
    context = connection_args.get("ssl_context")
    if not isinstance(context, ssl.SSLContext):
        raise MissingCertificatesError(f"no certificates to connect to {scheme}://{location} with: {_REMEDY}")
    return context


def listening_context(scheme: str, location: str, listen_args: dict[str, Any]) -> ssl.SSLContext:
    """The context to listen with.

    Raises:
        TypeError: there is none.
    """
    context = listen_args.get("ssl_context")
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"no certificates to listen at {scheme}://{location} with: {_REMEDY}")
    return context


class TLSConnector(SocketConnector):
    """Connects to `host:port` with TLS."""

    scheme = "tls"

    def ssl_context(self, location: str, connection_args: dict[str, Any]) -> ssl.SSLContext | None:
        """The context to connect with."""
        return connecting_context(self.scheme, location, connection_args)


class TLSListener(SocketListener):
    """Accepts connections at `host:port` with TLS."""

    scheme = "tls"

    def ssl_context(self, location: str, listen_args: dict[str, Any]) -> ssl.SSLContext | None:
        """The context to listen with."""
        return listening_context(self.scheme, location, listen_args)


class TLSBackend(TCPBackend):
    """`tls://host:port`."""

    connector = TLSConnector
    listener = TLSListener


backends["tls"] = TLSBackend()
