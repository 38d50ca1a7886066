"""`distributed.comm.core`."""

from __future__ import annotations

from headrace.comm.connections import BaseListener, Comm, Connector, Listener, connect, listen
from headrace.exceptions import CommClosedError, FatalCommClosedError

__all__ = [
    "BaseListener",
    "Comm",
    "CommClosedError",
    "Connector",
    "FatalCommClosedError",
    "Listener",
    "connect",
    "listen",
]
