"""`distributed.diagnostics.plugin`: the base classes of plugins, and those that come with headrace."""

from __future__ import annotations

from .plugins.forward import ForwardLoggingPlugin, ForwardOutput, forward_stream
from .plugins.install import CondaInstall, InstallPlugin, PipInstall
from .plugins.plugin_base import NannyPlugin, SchedulerPlugin, WorkerPlugin
from .plugins.upload import (
    Environ,
    SchedulerUploadFile,
    UploadDirectory,
    UploadFile,
)

__all__ = [
    "CondaInstall",
    "Environ",
    "ForwardLoggingPlugin",
    "ForwardOutput",
    "InstallPlugin",
    "NannyPlugin",
    "PipInstall",
    "SchedulerPlugin",
    "SchedulerUploadFile",
    "UploadDirectory",
    "UploadFile",
    "WorkerPlugin",
    "forward_stream",
]
