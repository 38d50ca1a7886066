"""A task run again in the client's process: the scheduler tells the call, the client gets the inputs and makes it."""

from __future__ import annotations

from .client import ReplayTaskClient
from .scheduler import ReplayTaskScheduler

__all__ = ["ReplayTaskClient", "ReplayTaskScheduler"]
