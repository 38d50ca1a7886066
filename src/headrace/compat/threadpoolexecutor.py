"""`distributed.threadpoolexecutor`."""

from __future__ import annotations

from headrace.compat.toolbox.seceding_executor import ThreadPoolExecutor
from headrace.worker import rejoin, secede

__all__ = ["ThreadPoolExecutor", "rejoin", "secede"]
