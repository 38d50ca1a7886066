"""The pure core of a worker: no sockets, no threads, no clock, no user code."""

from __future__ import annotations

from .core import WorkerState
from .effects import Execute, GatherData, Outbox
from .invariants import InvariantViolation
from .tasks import TaskState
from .transitions import InvalidTransition

__all__ = ["Execute", "GatherData", "InvalidTransition", "InvariantViolation", "Outbox", "TaskState", "WorkerState"]
