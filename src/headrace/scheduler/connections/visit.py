"""The shell's record of one client, beside the core's."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from headrace.rpc.server import Faults
from headrace.scheduler.state.records.clients import ClientState


class Visit:
    """The shell's knowledge of one client beside the core's record.

    Attributes:
        record: the core's.
        received: messages that have come, over all connections.
        confirmed: of these, how many the client knows of.
        backlog: messages that wait for their turn.
        farewell: the timer after which it is forgotten, while its connection is broken.
        faults: how many of its messages made no sense of late.
    """

    __slots__ = ("backlog", "confirmed", "farewell", "faults", "received", "record")

    def __init__(self, record: ClientState) -> None:
        self.record = record
        self.received = 0
        self.confirmed = 0
        self.backlog: deque[Any] = deque()
        self.farewell: asyncio.TimerHandle | None = None
        self.faults = Faults(time.monotonic())
