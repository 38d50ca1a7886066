"""`distributed.comm.core`."""

from __future__ import annotations

from headrace.comm.addressing import normalize_address, parse_address
from headrace.comm.connections import BaseListener, Comm, Connector, Listener, connect, listen
from headrace.comm.registry import get_backend
from headrace.exceptions import CommClosedError, ConnectTimeoutError, FatalCommClosedError

__all__ = [
    "BaseListener",
    "Comm",
    "CommClosedError",
    "ConnectTimeoutError",
    "Connector",
    "FatalCommClosedError",
    "Listener",
    "connect",
    "get_backend",
    "listen",
    "normalize_address",
    "parse_address",
]
