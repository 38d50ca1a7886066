"""The pure core of a worker: no sockets, no threads, no clock, no user code."""

from __future__ import annotations

from .core import WorkerCore
from .effects import GatherData, Outbox, TaskRun
from .invariants import InvariantViolation
from .mover import InvalidTransition
from .tasks import TaskState

__all__ = ["GatherData", "InvalidTransition", "InvariantViolation", "Outbox", "TaskRun", "TaskState", "WorkerCore"]
