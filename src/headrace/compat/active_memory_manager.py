"""`distributed.active_memory_manager`."""

from __future__ import annotations

from headrace.client.api.memory_manager_handle import AMMClientProxy
from headrace.extensions.memory_manager.scheduler import ActiveMemoryManagerExtension
from headrace.scheduler.state.data.memory_manager import (
    ActiveMemoryManagerPolicy,
    ReduceReplicas,
    RetireWorker,
    Suggestion,
)

__all__ = [
    "AMMClientProxy",
    "ActiveMemoryManagerExtension",
    "ActiveMemoryManagerPolicy",
    "ReduceReplicas",
    "RetireWorker",
    "Suggestion",
]
