"""`distributed.core`: comms, requests and servers by their older names, and a server of one's own."""

from __future__ import annotations

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
