"""Connections: `connect` and `listen`, the comms and listeners that they return, and functions of addresses.

Each transport registers itself under its scheme when it is first needed (`registry`).
"""

from __future__ import annotations

from headrace.exceptions import CommClosedError, ConnectTimeoutError, FatalCommClosedError, ProtocolVersionError

from .addressing import (
    get_address_host,
    get_address_host_port,
    get_local_address_for,
    normalize_address,
    parse_address,
    parse_host_port,
    resolve_address,
    unparse_address,
    unparse_host_port,
)
from .connections import (
    Comm,
    Listener,
    connect,
    listen,
)
from .registry import backends, get_backend

__all__ = [
    "Comm",
    "CommClosedError",
    "ConnectTimeoutError",
    "FatalCommClosedError",
    "Listener",
    "ProtocolVersionError",
    "backends",
    "connect",
    "get_address_host",
    "get_address_host_port",
    "get_backend",
    "get_local_address_for",
    "listen",
    "normalize_address",
    "parse_address",
    "parse_host_port",
    "resolve_address",
    "unparse_address",
    "unparse_host_port",
]
