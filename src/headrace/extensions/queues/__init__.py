"""Queues of futures and small values that the whole cluster shares."""

from __future__ import annotations

from .client import Queue

__all__ = ["Queue"]
