"""Locks by several names at once, in the whole cluster."""

from __future__ import annotations

from .client import MultiLock

__all__ = ["MultiLock"]
