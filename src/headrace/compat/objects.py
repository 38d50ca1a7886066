"""`distributed.objects`."""

from __future__ import annotations

from headrace.client.presentation.answer_tables import HasWhat, SchedulerInfo, WhoHas

__all__ = ["HasWhat", "SchedulerInfo", "WhoHas"]
