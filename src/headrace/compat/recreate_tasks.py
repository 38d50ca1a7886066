"""`distributed.recreate_tasks`."""

from __future__ import annotations

from headrace.extensions.replay import ReplayTaskClient, ReplayTaskScheduler

__all__ = ["ReplayTaskClient", "ReplayTaskScheduler"]
