"""The scheduler: `state` decides, `server` listens and sends. Documented names are loaded when asked for.

The public class Scheduler, with the documented members, is `headrace.Scheduler`.
"""

from __future__ import annotations

from headrace.common.facade import lazy_names

_NAMES = {
    "SchedulerServer": ".server",
    "CollectTaskMetaDataPlugin": "headrace.diagnostics.plugins.task_metadata",
    "MemoryState": ".state.records.memory_readings",
    "KilledWorker": "headrace.exceptions",
    "NoValidWorkerError": "headrace.exceptions",
    "NoWorkerError": "headrace.exceptions",
    "WorkerStatusPlugin": "headrace.diagnostics.plugins.worker_status",
    "ErredTask": ".state.checks.story",
    "heartbeat_interval": ".connections.heart_rates",
    "validate_state": ".state.checks.invariants",
    "validate_task_state": ".state.checks.invariants",
    "validate_unrunnable": ".state.checks.invariants",
    "validate_worker_state": ".state.checks.invariants",
    "TaskState": ".state.records.tasks",
    "TaskGroup": ".state.records.groups",
    "TaskPrefix": ".state.records.groups",
    "TaskCollection": ".state.records.groups",
    "Computation": ".state.records.computations",
    "WorkerState": ".state.records.workers",
    "ClientState": ".state.records.clients",
    "Transition": ".state.checks.story",
}

__all__ = sorted(_NAMES)

__getattr__ = lazy_names(__name__, _NAMES)
