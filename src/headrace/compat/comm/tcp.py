"""`distributed.comm.tcp`: the transports over sockets, and comms over streams of tornado that others have connected."""

from __future__ import annotations

import ssl
from typing import Any, NoReturn

from headrace.auth.access_rules import configured
from headrace.comm.addressing import unparse_host_port
from headrace.comm.socket_comm import SocketComm
from headrace.comm.sockets import SocketAddress
from headrace.comm.tcp import SocketConnector as TCPConnector
from headrace.comm.tcp import SocketListener as TCPListener
from headrace.comm.tcp import TCPBackend
from headrace.comm.tls import TLSBackend, TLSConnector, TLSListener
from headrace.common.facade import names_before
from headrace.config import CommOptions
from headrace.exceptions import CommClosedError, FatalCommClosedError
from headrace.machine import system_memory_limit

from .stream_transport import StreamTransport

__getattr__ = names_before(__name__, "headrace.comm.tcp")

#: Bytes that a stream may hold which has not sent, or not been read.
MAX_BUFFER_SIZE = system_memory_limit() / 2


class TCP(SocketComm):
    """A comm over a connected stream of tornado.

    Args:
        stream: a `tornado.iostream.IOStream`. The comm owns it from now on.
        local_addr, peer_addr: addresses of both ends, with scheme.
        deserialize: see `Comm`.
    """

    _scheme = "tcp"

    def __init__(self, stream: Any, local_addr: str, peer_addr: str, deserialize: bool = True) -> None:
        options = CommOptions.from_config()
        super().__init__(
            self._scheme,
            rules=configured("client"),
            deserialize=deserialize,
            max_frame_bytes=options.max_frame_bytes,
            compression=options.compression,
        )
        self.stream = stream
        transport = StreamTransport(stream, self)
        self.connection_made(transport)
        self.local_address, self.peer_address = local_addr, peer_addr
        transport.start()


class TLS(TCP):
    """A comm over a connected `SSLIOStream` of tornado; arguments as for `TCP`."""

    _scheme = "tls"


def get_stream_address(comm: Any) -> str:
    """Host and port of this end of a stream, "<closed>" if it is closed.

    Args:
        comm: the stream, or anything with `closed` and `socket`.
    """
    if comm.closed():
        return "<closed>"
    try:
        name: SocketAddress = comm.socket.getsockname()
    except OSError:
        return "<closed>"
    return unparse_host_port(name[0], name[1])


def convert_stream_closed_error(obj: object, exc: Any) -> NoReturn:
    """Raise for tornado's `StreamClosedError` what a comm would have raised.

    Args:
        obj: what was used; named in the message.
        exc: the error, with its reason as `real_error`.

    Raises:
        FatalCommClosedError: a certificate was refused.
        CommClosedError: any other end.
    """
    cause = getattr(exc, "real_error", None)
    if cause is None:
        raise CommClosedError(f"in {obj}: {exc}") from exc
    refused = isinstance(cause, ssl.SSLError) and ("UNKNOWN_CA" in str(cause) or "CERTIFICATE" in str(cause).upper())
    kind = FatalCommClosedError if refused else CommClosedError
    raise kind(f"in {obj}: {type(cause).__name__}: {cause}") from cause


__all__ = [
    "MAX_BUFFER_SIZE",
    "TCP",
    "TLS",
    "TCPBackend",
    "TCPConnector",
    "TCPListener",
    "TLSBackend",
    "TLSConnector",
    "TLSListener",
    "convert_stream_closed_error",
    "get_stream_address",
]
