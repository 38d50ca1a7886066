"""Hooks of a scheduler plugin, which work stealing is there and need not be here: none of them is called or needed."""

from __future__ import annotations

from typing import Any

from headrace.common.hooks import does_nothing


class PluginHooks:
    """Hooks that do nothing, so that subclasses of `WorkStealing` can be registered as plugins, too."""

    idempotent: bool = False

    @does_nothing
    def add_worker(self, scheduler: Any = None, worker: Any = None) -> None:
        """A worker has come."""

    @does_nothing
    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        """A worker has gone."""

    @does_nothing
    def add_client(self, scheduler: Any, client: str) -> None:
        """A client has come."""

    @does_nothing
    def remove_client(self, scheduler: Any, client: str) -> None:
        """A client has gone."""

    @does_nothing
    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """A task has moved."""

    @does_nothing
    def update_graph(
        self,
        scheduler: Any,
        *,
        client: str = "",
        keys: Any = (),
        tasks: Any = (),
        annotations: Any = None,
        priority: Any = None,
        stimulus_id: str = "",
        **kwargs: Any,
    ) -> None:
        """Tasks have come."""

    @does_nothing
    def restart(self, scheduler: Any) -> None:
        """The cluster restarts."""

    @does_nothing
    def log_event(self, topic: str, msg: Any) -> None:
        """Something was published."""

    @does_nothing
    def valid_workers_downscaling(self, scheduler: Any, workers: list[Any]) -> list[Any]:
        """All workers may be closed, as far as this is concerned."""
        return workers

    @does_nothing
    async def before_close(self) -> None:
        """The scheduler is about to close."""

    @does_nothing
    async def close(self) -> None:
        """The scheduler has closed."""
