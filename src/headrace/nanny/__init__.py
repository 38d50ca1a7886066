"""Keeps a worker in a process of its own alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.facade import lazy_names

if TYPE_CHECKING:
    from .process import WorkerProcess
    from .server import Nanny

_HOMES = {"Nanny": ".server", "WorkerProcess": ".process"}

__all__ = ["Nanny", "WorkerProcess"]

__getattr__ = lazy_names(__name__, _HOMES)
