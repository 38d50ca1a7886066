"""`distributed.core`."""

from __future__ import annotations

from headrace.comm.addressing import addr_from_args, coerce_to_address
from headrace.common.status import Status
from headrace.exceptions import CommClosedError, RPCClosed
from headrace.rpc import ConnectionPool, PooledRPCCall, error_message, rpc, send_recv
from headrace.rpc.documented_server import Server

__all__ = [
    "CommClosedError",
    "ConnectionPool",
    "PooledRPCCall",
    "RPCClosed",
    "Server",
    "Status",
    "addr_from_args",
    "coerce_to_address",
    "error_message",
    "rpc",
    "send_recv",
]
