"""Workers: they compute tasks, keep the results, and give them to each other.

The names are loaded when they are used, so that importing a pure part does not bring in sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.facade import lazy_names

if TYPE_CHECKING:
    from headrace.client import get_client

    from .context import (
        Reschedule,
        get_current_task,
        get_worker,
        local_client,
        print,
        rejoin,
        secede,
        thread_state,
        warn,
        worker_client,
    )
    from .state import TaskState

_HOMES = {
    "TaskState": ".state",
    "Reschedule": ".context",
    "get_client": "headrace.client.current",
    "get_current_task": ".context",
    "get_worker": ".context",
    "local_client": ".context",
    "print": ".context",
    "rejoin": ".context",
    "secede": ".context",
    "thread_state": ".context",
    "warn": ".context",
    "worker_client": ".context",
}

__all__ = [
    "Reschedule",
    "TaskState",
    "get_client",
    "get_current_task",
    "get_worker",
    "local_client",
    "print",
    "rejoin",
    "secede",
    "thread_state",
    "warn",
    "worker_client",
]

__getattr__ = lazy_names(__name__, _HOMES)
