"""Keeps a worker in a process of its own alive."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .process import WorkerProcess
    from .server import Nanny

_HOMES = {"Nanny": "server", "WorkerProcess": "process"}

__all__ = ["Nanny", "WorkerProcess"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
