"""Running a task again where its user is: the scheduler tells the call, the client gets the inputs and makes it."""

from __future__ import annotations

from .client import ReplayTaskClient
from .scheduler import ReplayTaskScheduler

__all__ = ["ReplayTaskClient", "ReplayTaskScheduler"]
