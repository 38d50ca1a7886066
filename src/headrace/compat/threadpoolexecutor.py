"""`distributed.threadpoolexecutor`."""

from __future__ import annotations

from headrace.worker import rejoin, secede

__all__ = ["rejoin", "secede"]
