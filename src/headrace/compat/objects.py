"""`distributed.objects`."""

from __future__ import annotations

from headrace.client.objects import HasWhat, SchedulerInfo, WhoHas

__all__ = ["HasWhat", "SchedulerInfo", "WhoHas"]
