"""Keeps a worker in a process of its own alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.facade import lazy_names

if TYPE_CHECKING:
    from .server import Nanny
    from .worker_process import WorkerProcess

_HOMES = {"Nanny": ".server", "WorkerProcess": ".worker_process"}

__all__ = ["Nanny", "WorkerProcess"]

__getattr__ = lazy_names(__name__, _HOMES)
