"""Requests and replies, one-way streams, and the event loops on which they run."""

from __future__ import annotations

from .loops.loop import (
    IOLoop,
    LoopRunner,
    new_event_loop,
    run,
    sync,
)
from .loops.periodic import PeriodicCallback
from .patience import PatientCalls, SilentPeerError
from .pool import ConnectionPool, PooledRPCCall, rpc
from .requests import error_message, remote_exception, send_recv
from .server import NO_REPLY, RequestServer
from .stream import Stream

__all__ = [
    "NO_REPLY",
    "ConnectionPool",
    "IOLoop",
    "LoopRunner",
    "PatientCalls",
    "PeriodicCallback",
    "PooledRPCCall",
    "RequestServer",
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
