"""Requests and replies, one-way streams, and the loops they run on."""

from __future__ import annotations

from .calls import error_message, remote_exception, send_recv
from .loop import IOLoop, LoopRunner, new_event_loop, run, sync
from .patience import PatientCalls, SilentPeerError
from .periodic import PeriodicCallback
from .pool import ConnectionPool, PooledRPCCall, rpc
from .server import NO_REPLY, Server
from .stream import Stream

__all__ = [
    "NO_REPLY",
    "ConnectionPool",
    "IOLoop",
    "LoopRunner",
    "PatientCalls",
    "PeriodicCallback",
    "PooledRPCCall",
    "Server",
    "SilentPeerError",
    "Stream",
    "error_message",
    "new_event_loop",
    "remote_exception",
    "rpc",
    "run",
    "send_recv",
    "sync",
]
