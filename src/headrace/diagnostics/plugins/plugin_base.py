"""Base classes of the plugins that users write: hooks into the life of a scheduler, worker or nanny.

Every hook does nothing here, so that a plugin overrides only what it needs. Hooks run on the event loop of the process
that they extend: a slow one delays that process.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from headrace.common.hooks import does_nothing

if TYPE_CHECKING:
    from headrace import Nanny, Scheduler, Worker

__all__ = ["NannyPlugin", "SchedulerPlugin", "WorkerPlugin"]


class SchedulerPlugin:
    """Extends the scheduler; register it with `Client.register_plugin` or `Scheduler.add_plugin`.

    Attributes:
        name: the name that it is registered under; another plugin of the same name replaces it.
        idempotent: keep the one that is registered already instead of replacing it.

    >>> class Finished(SchedulerPlugin):
    ...     def __init__(self):
    ...         self.count = 0
    ...
    ...     def transition(self, key, start, finish, *args, **kwargs):
    ...         self.count += finish == "memory"
    >>> plugin = Finished()
    >>> plugin.transition("x", "processing", "memory", stimulus_id="s")
    >>> plugin.count
    1
    """

    name: str
    idempotent: bool = False

    @does_nothing
    async def start(self, scheduler: Scheduler) -> None:
        """The scheduler has started, or the plugin was added to one that runs."""

    @does_nothing
    async def before_close(self) -> None:
        """The scheduler is about to close and still does everything."""

    @does_nothing
    async def close(self) -> None:
        """The scheduler closes; its workers were asked to."""

    @does_nothing
    def update_graph(
        self,
        scheduler: Scheduler,
        *,
        client: str,
        keys: set[Any],
        tasks: list[Any],
        annotations: dict[str, dict[Any, Any]],
        priority: dict[Any, tuple[int | float, ...]],
        stimulus_id: str,
        **kwargs: Any,
    ) -> None:
        """A client has submitted tasks, or a part of them; none of these has been started.

        Large submissions come in parts, so that the first run while the last are on their way (`Client.map`: 500
        tasks, then 3,000 at a time); this is called for each. dask.distributed calls it once, when all have come.

        Args:
            scheduler: where this runs.
            client: its key.
            keys: keys whose results it wants.
            tasks: all keys of the submission.
            annotations: by annotation, its value per key.
            priority: priorities by key; smaller ones run earlier.
            stimulus_id: names this event in stories.
            kwargs: keywords that later versions may add.
        """

    @does_nothing
    def restart(self, scheduler: Scheduler) -> None:
        """All work was dropped and the workers restart."""

    @does_nothing
    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str, **kwargs: Any) -> None:
        """A task went from one state to another.

        Args:
            key: the task.
            start: released, waiting, no-worker, queued, processing, memory or erred.
            finish: one of these, or forgotten.
            args: nothing today.
            stimulus_id: names the event that caused it.
            kwargs: facts about the run, where known: worker, startstops, nbytes, …
        """

    @does_nothing
    def add_worker(self, scheduler: Scheduler, worker: str) -> Awaitable[None] | None:
        """A worker, named by its address, has joined. A coroutine is awaited after all plain hooks have run."""

    @does_nothing
    def remove_worker(
        self, scheduler: Scheduler, worker: str, *, stimulus_id: str, **kwargs: Any
    ) -> Awaitable[None] | None:
        """A worker, named by its address, is gone. A coroutine is awaited after all plain hooks have run."""

    @does_nothing
    def add_client(self, scheduler: Scheduler, client: str) -> None:
        """A client has connected."""

    @does_nothing
    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """A client has left."""

    @does_nothing
    def log_event(self, topic: str, msg: object) -> None:
        """Something was published on a topic."""

    @does_nothing
    def valid_workers_downscaling(self, scheduler: Scheduler, workers: list[Any]) -> list[Any]:
        """Choose, of the `WorkerState` records given, those that may be removed when the cluster shrinks."""
        return workers


class WorkerPlugin:
    """Extends every worker, those that join later included; register it with `Client.register_plugin`.

    Attributes:
        name: the name that it is registered under; another plugin of the same name replaces it.
        idempotent: keep the one that is registered already instead of replacing it.
    """

    name: str
    idempotent: bool = False

    @does_nothing
    def setup(self, worker: Worker) -> Awaitable[None] | None:
        """The plugin was attached to this worker. A coroutine is awaited before the worker takes work."""

    @does_nothing
    def teardown(self, worker: Worker) -> Awaitable[None] | None:
        """The worker closes, or the plugin was removed."""

    @does_nothing
    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """A task went from one state to another on this worker.

        Args:
            key: the task.
            start: waiting, ready, executing, long-running, fetch, flight, memory, error, …
            finish: likewise.
            kwargs: facts about the task, where known.
        """


class NannyPlugin:
    """Extends every nanny: its hooks run before the worker's process starts.

    Attributes:
        name: the name that it is registered under; another plugin of the same name replaces it.
        idempotent: keep the one that is registered already instead of replacing it.
        restart: restart the running workers when it is registered.
    """

    name: str
    idempotent: bool = False
    restart: bool = False

    @does_nothing
    def setup(self, nanny: Nanny) -> Awaitable[None] | None:
        """The plugin was attached to this nanny."""

    @does_nothing
    def teardown(self, nanny: Nanny) -> Awaitable[None] | None:
        """The nanny closes, or the plugin was removed."""
