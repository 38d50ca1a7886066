"""headrace: a dynamic distributed task scheduler for Python. Public names are resolved when they are first used."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    "Nanny": "headrace.compat.nanny",
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
    "Worker": "headrace.compat.worker",
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

if TYPE_CHECKING:  # what type checkers see; a test compares it with the table
    from headrace import config as config
    from headrace.actor import Actor as Actor
    from headrace.actor import ActorFuture as ActorFuture
    from headrace.actor import BaseActorFuture as BaseActorFuture
    from headrace.client import CancelledError as CancelledError
    from headrace.client import Client as Client
    from headrace.client import CompatibleExecutor as CompatibleExecutor
    from headrace.client import Future as Future
    from headrace.client import Retry as Retry
    from headrace.client import as_completed as as_completed
    from headrace.client import default_client as default_client
    from headrace.client import fire_and_forget as fire_and_forget
    from headrace.client import futures_of as futures_of
    from headrace.client import get_task_metadata as get_task_metadata
    from headrace.client import performance_report as performance_report
    from headrace.client import wait as wait
    from headrace.comm import connect as connect
    from headrace.common.status import Status as Status
    from headrace.compat.nanny import Nanny as Nanny
    from headrace.compat.scheduler import Scheduler as Scheduler
    from headrace.compat.worker import Worker as Worker
    from headrace.deploy import Adaptive as Adaptive
    from headrace.deploy import LocalCluster as LocalCluster
    from headrace.deploy import SpecCluster as SpecCluster
    from headrace.deploy import SSHCluster as SSHCluster
    from headrace.deploy import SubprocessCluster as SubprocessCluster
    from headrace.diagnostics.plugin import CondaInstall as CondaInstall
    from headrace.diagnostics.plugin import Environ as Environ
    from headrace.diagnostics.plugin import InstallPlugin as InstallPlugin
    from headrace.diagnostics.plugin import NannyPlugin as NannyPlugin
    from headrace.diagnostics.plugin import PipInstall as PipInstall
    from headrace.diagnostics.plugin import SchedulerPlugin as SchedulerPlugin
    from headrace.diagnostics.plugin import UploadDirectory as UploadDirectory
    from headrace.diagnostics.plugin import UploadFile as UploadFile
    from headrace.diagnostics.plugin import WorkerPlugin as WorkerPlugin
    from headrace.diagnostics.progressbar import progress as progress
    from headrace.diagnostics.task_stream import get_task_stream as get_task_stream
    from headrace.exceptions import Reschedule as Reschedule
    from headrace.exceptions import TaskCancelled as TaskCancelled
    from headrace.exceptions import TaskTimeout as TaskTimeout
    from headrace.extensions.events import Event as Event
    from headrace.extensions.locks import Lock as Lock
    from headrace.extensions.multi_locks import MultiLock as MultiLock
    from headrace.extensions.queues import Queue as Queue
    from headrace.extensions.semaphores import Semaphore as Semaphore
    from headrace.extensions.spans import span as span
    from headrace.extensions.variables import Variable as Variable
    from headrace.rpc import rpc as rpc
    from headrace.rpc import sync as sync
    from headrace.scheduler import KilledWorker as KilledWorker
    from headrace.security import Security as Security
    from headrace.worker import get_client as get_client
    from headrace.worker import get_worker as get_worker
    from headrace.worker import local_client as local_client
    from headrace.worker import print as print
    from headrace.worker import rejoin as rejoin
    from headrace.worker import secede as secede
    from headrace.worker import warn as warn
    from headrace.worker import worker_client as worker_client

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


def on_import() -> None:
    """Do what `import distributed` does beside giving names: rename old settings, set loggers up where configured."""
    from .config import register_defaults
    from .logging_setup import initialize_where_configured

    if "dask" in sys.modules:
        register_defaults()
    initialize_where_configured()


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


sys.modules[__name__].__class__ = Facade
install()
