"""`distributed.threadpoolexecutor`."""

from __future__ import annotations

from headrace.toolbox.executor import ThreadPoolExecutor
from headrace.worker import rejoin, secede

__all__ = ["ThreadPoolExecutor", "rejoin", "secede"]
