"""`distributed.worker`: the public `Worker`, its documented answers, and the names of `headrace.worker`.

The names are loaded when they are used, so that a name for use inside tasks does not bring in all the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.facade import names_before

if TYPE_CHECKING:
    from headrace.client import get_client
    from headrace.compat.worker_state_machine import WorkerState
    from headrace.worker import (
        Reschedule,
        TaskState,
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

    from .public_worker import Worker

_HOMES = {
    "GetDataBusy": ".replies",
    "GetDataSuccess": ".replies",
    "RunTaskFailure": ".replies",
    "RunTaskSuccess": ".replies",
    "Worker": ".public_worker",
    "WorkerState": "headrace.compat.worker_state_machine",
    "add_gpu_metrics": "headrace.worker.heartbeat_metrics",
    "benchmark_disk": "headrace.worker.benchmarks",
    "benchmark_memory": "headrace.worker.benchmarks",
    "benchmark_network": "headrace.worker.benchmarks",
    "convert_args_to_str": ".replies",
    "convert_kwargs_to_str": ".replies",
    "dumps_function": ".replies",
    "fail_hard": ".replies",
    "get_data_from_worker": ".replies",
    "get_msg_safe_str": ".replies",
    "run": ".replies",
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

__getattr__ = names_before(__name__, "headrace.worker", _HOMES)
