"""What the tasks of a span of code left behind: metadata and how they ended. Costs nothing while nobody collects."""

from __future__ import annotations

from typing import Any

from .plugin_base import SchedulerPlugin

__all__ = ["CollectTaskMetaDataPlugin"]


class CollectTaskMetaDataPlugin(SchedulerPlugin):
    """Collects metadata and final states of the tasks that are submitted while it is there.

    Args:
        scheduler: whose tasks; it is not added there by this.
        name: of the plugin.

    Attributes:
        keys: tasks that have not ended.
        metadata: {key: what the task or plugins of workers put there, or None}.
        state: {key: "memory", "erred" or what else it ended as}.
    """

    def __init__(self, scheduler: Any, name: str) -> None:
        self.scheduler = scheduler
        self.name = name
        self.keys: set[Any] = set()
        self.metadata: dict[Any, Any] = {}
        self.state: dict[Any, str] = {}

    def update_graph(self, scheduler: Any, *, keys: Any = (), tasks: Any = None, **kwargs: Any) -> None:
        """Called by the scheduler."""
        self.keys.update(keys if tasks is None else tasks)

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Called by the scheduler."""
        if finish not in ("memory", "erred") or key not in self.keys:
            return
        self.keys.discard(key)
        self.metadata[key] = kwargs.get("metadata") or None
        self.state[key] = finish
