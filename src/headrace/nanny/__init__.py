"""Keeps a worker in a process of its own alive.

The public class Nanny, with the documented members, is `headrace.Nanny`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.facade import lazy_names

if TYPE_CHECKING:
    from .server import NannyServer
    from .worker_process import WorkerProcess

_HOMES = {"NannyServer": ".server", "WorkerProcess": ".worker_process"}

__all__ = ["NannyServer", "WorkerProcess"]

__getattr__ = lazy_names(__name__, _HOMES)
