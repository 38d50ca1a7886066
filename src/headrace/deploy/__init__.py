"""Clusters: a scheduler and workers that are started, scaled and stopped together. Names are loaded when used."""

from __future__ import annotations

from headrace.common.facade import lazy_names

_NAMES = {"Cluster": ".cluster", "LocalCluster": ".local"}

__all__ = ["Cluster", "LocalCluster"]

__getattr__ = lazy_names(__name__, _NAMES)
