"""Clusters: a scheduler and workers that are started, scaled and stopped together. Names are loaded when used."""

from __future__ import annotations

from headrace.common.facade import lazy_names

_NAMES = {
    "Adaptive": ".adaptive",
    "Cluster": ".cluster",
    "LocalCluster": ".local",
    "SSHCluster": ".ssh",
    "SpecCluster": ".spec",
    "SubprocessCluster": ".subprocess",
}

__all__ = ["Adaptive", "Cluster", "LocalCluster", "SSHCluster", "SpecCluster", "SubprocessCluster"]

__getattr__ = lazy_names(__name__, _NAMES)
