"""Metadata and final states of the tasks of a span of code. Costs nothing while nobody collects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .plugin_base import SchedulerPlugin

__all__ = ["CollectTaskMetaDataPlugin"]


class CollectTaskMetaDataPlugin(SchedulerPlugin):
    """Collects metadata and final states of the tasks that are submitted while it is there.

    Args:
        scheduler: the scheduler of the tasks; the plugin does not add itself there.
        name: of the plugin.

    Attributes:
        keys: tasks that have not ended.
        metadata: {key: metadata that the task or plugins of workers set, or None}.
        state: {key: "memory" or "erred"}.
    """

    def __init__(self, scheduler: object, name: str) -> None:
        self.scheduler = scheduler
        self.name = name
        self.keys: set[Any] = set()
        self.metadata: dict[Any, Any] = {}
        self.state: dict[Any, str] = {}

    def update_graph(
        self, scheduler: object, *, keys: Iterable[Any] = (), tasks: Iterable[Any] | None = None, **kwargs: Any
    ) -> None:
        """Note the tasks that were submitted."""
        self.keys.update(keys if tasks is None else tasks)

    def transition(self, key: Any, start: str, finish: str, *args: object, **kwargs: Any) -> None:
        """Collect the metadata and the state of a task that has ended."""
        if finish not in ("memory", "erred") or key not in self.keys:
            return
        self.keys.discard(key)
        self.metadata[key] = kwargs.get("metadata") or None
        self.state[key] = finish
