"""`distributed.stealing`.

Work stealing is documented as a scheduler plugin, though none of the hooks does anything: the core does without them.
"""

from __future__ import annotations

from headrace.diagnostics.plugins.plugin_base import SchedulerPlugin
from headrace.extensions.stealing.scheduler import InFlightInfo, StealingExtension


class WorkStealing(StealingExtension, SchedulerPlugin):
    """Has idle workers given tasks that busy ones have not started; see `StealingExtension`."""


__all__ = ["InFlightInfo", "WorkStealing"]
