"""The scheduler: `state` decides, `server` listens and sends. Documented names are loaded when asked for."""

from __future__ import annotations

from headrace.common.facade import lazy_names

_NAMES = {
    "Scheduler": ".server",
    "CollectTaskMetaDataPlugin": "headrace.diagnostics.task_metadata",
    "MemoryState": ".state.memory",
    "KilledWorker": "headrace.exceptions",
    "NoValidWorkerError": "headrace.exceptions",
    "NoWorkerError": "headrace.exceptions",
    "SchedulerState": ".handlers.documented_state",
    "WorkerStatusPlugin": "headrace.diagnostics.watching",
    "ErredTask": ".state.story",
    "decide_worker": ".handlers.documented_state",
    "heartbeat_interval": ".handlers.watching",
    "validate_state": ".state.invariants",
    "validate_task_state": ".state.invariants",
    "validate_unrunnable": ".state.invariants",
    "validate_worker_state": ".state.invariants",
    "TaskState": ".state.tasks",
    "TaskGroup": ".state.tasks",
    "TaskPrefix": ".state.tasks",
    "TaskCollection": ".state.tasks",
    "Computation": ".state.tasks",
    "WorkerState": ".state.workers",
    "ClientState": ".state.clients",
    "Transition": ".state.story",
}

__all__ = sorted(_NAMES)

__getattr__ = lazy_names(__name__, _NAMES)
