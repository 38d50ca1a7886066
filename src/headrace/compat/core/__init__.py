"""`distributed.core`: comms, requests and servers by their older names, and a server of one's own.

The names are loaded when they are used: the public Worker needs one module of this package, and starts often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.facade import lazy_names

if TYPE_CHECKING:
    from headrace.comm.addressing import coerce_to_address
    from headrace.common.status import Status
    from headrace.compat.metrics import context_meter_to_server_digest
    from headrace.exceptions import CommClosedError, RPCClosed
    from headrace.rpc import ConnectionPool, PooledRPCCall, rpc, send_recv

    from .addresses import addr_from_args
    from .error_messages import (
        ErrorMessage,
        OKMessage,
        clean_exception,
        collect_causes,
        error_message,
        pingpong,
        raise_later,
    )
    from .own_server import Server

_HOMES = {
    "CommClosedError": "headrace.exceptions",
    "ConnectionPool": "headrace.rpc",
    "ErrorMessage": ".error_messages",
    "OKMessage": ".error_messages",
    "PooledRPCCall": "headrace.rpc",
    "RPCClosed": "headrace.exceptions",
    "Server": ".own_server",
    "Status": "headrace.common.status",
    "addr_from_args": ".addresses",
    "clean_exception": ".error_messages",
    "coerce_to_address": "headrace.comm.addressing",
    "collect_causes": ".error_messages",
    "context_meter_to_server_digest": "headrace.compat.metrics",
    "error_message": ".error_messages",
    "pingpong": ".error_messages",
    "raise_later": ".error_messages",
    "rpc": "headrace.rpc",
    "send_recv": "headrace.rpc",
}

__all__ = [
    "CommClosedError",
    "ConnectionPool",
    "ErrorMessage",
    "OKMessage",
    "PooledRPCCall",
    "RPCClosed",
    "Server",
    "Status",
    "addr_from_args",
    "clean_exception",
    "coerce_to_address",
    "collect_causes",
    "context_meter_to_server_digest",
    "error_message",
    "pingpong",
    "raise_later",
    "rpc",
    "send_recv",
]

__getattr__ = lazy_names(__name__, _HOMES)
