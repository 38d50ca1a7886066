"""`distributed.stealing`."""

from __future__ import annotations

from headrace.extensions.stealing.scheduler import InFlightInfo, WorkStealing

__all__ = ["InFlightInfo", "WorkStealing"]
