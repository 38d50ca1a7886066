"""`distributed.stealing`.

Work stealing is documented as a scheduler plugin, though none of the hooks does anything: the core does without them.
"""

from __future__ import annotations

from headrace.common.hooks import does_nothing
from headrace.diagnostics.plugins.plugin_base import SchedulerPlugin
from headrace.extensions.stealing.scheduler import InFlightInfo, StealingExtension


class WorkStealing(StealingExtension, SchedulerPlugin):
    """Has idle workers given tasks that busy ones have not started; see `StealingExtension`."""

    @does_nothing
    def add_worker(self, scheduler: object = None, worker: str | None = None) -> None:
        """Do nothing when a worker has come."""

    @does_nothing
    def remove_worker(self, scheduler: object, worker: str, **kwargs: object) -> None:
        """Do nothing when a worker has gone."""

    @does_nothing
    def transition(self, key: object, start: str, finish: str, *args: object, **kwargs: object) -> None:
        """Do nothing when a task has moved."""


__all__ = ["InFlightInfo", "WorkStealing"]
