"""`distributed.diskutils`."""

from __future__ import annotations

from headrace.directories import WorkDir, WorkSpace, is_locking_enabled, safe_unlink

__all__ = ["WorkDir", "WorkSpace", "is_locking_enabled", "safe_unlink"]
