"""headrace: a dynamic distributed task scheduler for Python. Public names are resolved when they are first used."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from .alias import Facade, install

__version__ = "0.1.0"

_NAMES = {
    "UploadFile": "headrace.diagnostics.plugin",
    "UploadDirectory": "headrace.diagnostics.plugin",
    "PipInstall": "headrace.diagnostics.plugin",
    "InstallPlugin": "headrace.diagnostics.plugin",
    "Environ": "headrace.diagnostics.plugin",
    "CondaInstall": "headrace.diagnostics.plugin",
    "Actor": "headrace.actor",
    "ActorFuture": "headrace.actor",
    "BaseActorFuture": "headrace.actor",
    "Adaptive": "headrace.deploy",
    "CancelledError": "headrace.client",
    "Client": "headrace.client",
    "CompatibleExecutor": "headrace.client",
    "Future": "headrace.client",
    "Variable": "headrace.extensions.variables",
    "Semaphore": "headrace.extensions.semaphores",
    "Queue": "headrace.extensions.queues",
    "MultiLock": "headrace.extensions.multi_locks",
    "Event": "headrace.extensions.events",
    "KilledWorker": "headrace.scheduler",
    "LocalCluster": "headrace.deploy",
    "Lock": "headrace.extensions.locks",
    "Nanny": "headrace.nanny",
    "NannyPlugin": "headrace.diagnostics.plugin",
    "Reschedule": "headrace.exceptions",
    "Retry": "headrace.client",
    "Scheduler": "headrace.compat.scheduler",
    "SSHCluster": "headrace.deploy",
    "SchedulerPlugin": "headrace.diagnostics.plugin",
    "Security": "headrace.security",
    "SpecCluster": "headrace.deploy",
    "Status": "headrace.common.status",
    "SubprocessCluster": "headrace.deploy",
    "TaskCancelled": "headrace.exceptions",
    "TaskTimeout": "headrace.exceptions",
    "Worker": "headrace.worker",
    "WorkerPlugin": "headrace.diagnostics.plugin",
    "as_completed": "headrace.client",
    "config": "headrace.config",
    "connect": "headrace.comm",
    "default_client": "headrace.client",
    "fire_and_forget": "headrace.client",
    "futures_of": "headrace.client",
    "get_client": "headrace.worker",
    "get_task_metadata": "headrace.client",
    "get_task_stream": "headrace.diagnostics.task_stream",
    "get_worker": "headrace.worker",
    "local_client": "headrace.worker",
    "performance_report": "headrace.client",
    "print": "headrace.worker",
    "progress": "headrace.diagnostics.progressbar",
    "rejoin": "headrace.worker",
    "rpc": "headrace.rpc",
    "secede": "headrace.worker",
    "span": "headrace.extensions.spans",
    "sync": "headrace.rpc",
    "wait": "headrace.client",
    "warn": "headrace.worker",
    "worker_client": "headrace.worker",
}

#: What `from distributed import *`, and with it `import dask.distributed`, takes.
__all__ = sorted([*_NAMES, "TimeoutError"])


def __getattr__(name: str) -> Any:
    if name == "TimeoutError":
        return TimeoutError
    module = _NAMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "config":  # the one public name that is a module
        return import_module(module)
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


sys.modules[__name__].__class__ = Facade
install()
