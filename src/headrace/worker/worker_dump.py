"""A worker's state as plain data, for people and their tools; slow, and for finding bugs only."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from headrace.common.keys import from_wire
from headrace.common.plain import attributes, plain

if TYPE_CHECKING:
    from .server import WorkerServer

TASK = (
    "key", "state", "previous", "next", "priority", "run_id", "nbytes", "type", "duration", "annotations", "metadata",
    "dependencies", "dependents", "waiting_for_data", "waiters", "who_has", "coming_from", "resource_restrictions",
    "suspicious_count", "exception_text", "traceback_text", "start_time", "stop_time", "startstops", "span_id",
)  # fmt: skip
STATE = (
    "running", "ready", "constrained", "waiting", "executing", "long_running", "data_needed", "has_what",
    "in_flight_tasks", "in_flight_workers", "missing_dep_flight", "busy_workers", "executed_count",
    "total_resources", "available_resources", "transfer_incoming_bytes", "transfer_incoming_count_total",
)  # fmt: skip


def dump_state(worker: WorkerServer, exclude: Collection[str] = ()) -> dict[str, Any]:
    """All that a worker knows.

    Args:
        exclude: names that are left out, of parts or of the tasks' attributes.
    """
    from headrace.config import register_defaults

    state = worker.core
    parts = {
        **worker.identity(),
        "thread_id": threading.get_ident(),
        "logs": worker.get_logs(),
        "config": register_defaults().config,
        "data": list(worker.data),
        **{name: getattr(state, name) for name in STATE},
        "log": worker.operations.story(*state.tasks.values()) if "log" not in exclude else [],
    }
    found = {name: plain(value) for name, value in parts.items() if name not in exclude}
    if "tasks" not in exclude:
        found["tasks"] = {str(from_wire(task.key)): attributes(task, TASK, exclude) for task in state.tasks.values()}
    return found
