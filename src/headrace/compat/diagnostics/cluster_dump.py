"""A scheduler plugin that dumps the state of the cluster when the scheduler closes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from headrace.cluster_dump import path_of
from headrace.diagnostics.plugin import SchedulerPlugin


class ClusterDump(SchedulerPlugin):
    """Writes a dump before the scheduler closes.

    Args:
        url: path or URL, as for `Client.dump_cluster_state`.
        exclude: names that are left out.
        format_: "msgpack" or "yaml".
        storage_options: for `fsspec.open`.

    Raises:
        ValueError: there is no such format.
    """

    name = "cluster-dump"

    def __init__(
        self, url: str, exclude: Collection[str] = ("run_spec",), format_: str = "msgpack", **storage_options: Any
    ) -> None:
        path_of(url, format_)
        self.url = url
        self.exclude = tuple(exclude)
        self.format = format_
        self.storage_options = storage_options
        self.scheduler: Any = None

    async def start(self, scheduler: Any) -> None:
        """Called by the scheduler."""
        self.scheduler = scheduler

    async def before_close(self) -> None:
        """Called by the scheduler, when the workers are still there."""
        await self.scheduler.dump_cluster_state_to_url(
            self.url, exclude=self.exclude, format=self.format, **self.storage_options
        )


__all__ = ["ClusterDump"]
