"""Clusters: a scheduler and workers that are started, scaled and stopped together. Names are loaded when used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES = {"Cluster": ".cluster", "LocalCluster": ".local"}

__all__ = ["Cluster", "LocalCluster"]


def __getattr__(name: str) -> Any:
    module = _NAMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module, __name__), name)
    globals()[name] = value
    return value
