"""`distributed.chaos`."""

from __future__ import annotations

from headrace.diagnostics.chaos import KillWorker

__all__ = ["KillWorker"]
