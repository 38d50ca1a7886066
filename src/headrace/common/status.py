"""The life of a server or worker, in the words that the documented API uses."""

from __future__ import annotations

from enum import Enum


class Status(Enum):
    """State of a Scheduler, Worker or Nanny."""

    undefined = "undefined"
    created = "created"
    init = "init"
    starting = "starting"
    running = "running"
    paused = "paused"
    stopping = "stopping"
    stopped = "stopped"
    closing = "closing"
    closing_gracefully = "closing_gracefully"
    closed = "closed"
    failed = "failed"
    dont_reply = "dont_reply"


#: A status by its name.
Status.lookup = {status.name: status for status in Status}  # type: ignore[attr-defined]
