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
    from .server import Worker
    from .state import TaskState, WorkerState

_HOMES = {
    "Worker": ".server",
    "TaskState": ".state",
    "WorkerState": ".state",
    "Reschedule": ".context",
    "get_client": "headrace.client.current",
    "get_current_task": ".context",
    "get_worker": ".context",
    "local_client": ".context",
    "print": ".context",
    "rejoin": ".context",
    "secede": ".context",
    "GetDataBusy": ".replies",
    "GetDataSuccess": ".replies",
    "RunTaskFailure": ".replies",
    "RunTaskSuccess": ".replies",
    "add_gpu_metrics": ".heartbeat_metrics",
    "benchmark_disk": ".benchmarks",
    "benchmark_memory": ".benchmarks",
    "benchmark_network": ".benchmarks",
    "convert_args_to_str": ".replies",
    "convert_kwargs_to_str": ".replies",
    "dumps_function": ".replies",
    "fail_hard": ".replies",
    "get_data_from_worker": ".replies",
    "get_msg_safe_str": ".replies",
    "run": ".replies",
    "thread_state": ".context",
    "warn": ".context",
    "worker_client": ".context",
}

__all__ = [
    "Reschedule",
    "TaskState",
    "Worker",
    "WorkerState",
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
