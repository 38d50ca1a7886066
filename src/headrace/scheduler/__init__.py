"""The scheduler: `state` decides, `server` listens and sends. Documented names are loaded when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES = {
    "Scheduler": ".server",
    "KilledWorker": "headrace.exceptions",
    "SchedulerState": ".state.state",
    "TaskState": ".state.tasks",
    "TaskGroup": ".state.tasks",
    "TaskPrefix": ".state.tasks",
    "TaskCollection": ".state.tasks",
    "Computation": ".state.tasks",
    "WorkerState": ".state.workers",
    "ClientState": ".state.clients",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    module = _NAMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module, __name__), name)
    globals()[name] = value
    return value
