"""`distributed.multi_lock`."""

from __future__ import annotations

from headrace.extensions.multi_locks import MultiLock
from headrace.extensions.multi_locks.scheduler import MultiLockExtension

__all__ = ["MultiLock", "MultiLockExtension"]
