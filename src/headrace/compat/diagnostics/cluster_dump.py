"""A scheduler plugin that dumps the state of the cluster when the scheduler closes."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from headrace.cluster_dump import path_of
from headrace.diagnostics.plugins.plugin_base import SchedulerPlugin

if TYPE_CHECKING:
    from headrace import Scheduler


class ClusterDump(SchedulerPlugin):
    """Writes a dump before the scheduler closes.

    Args:
        url: path or URL, as for `Client.dump_cluster_state`.
        exclude: names of fields that are left out.
        format_: "msgpack" or "yaml".
        storage_options: for `fsspec.open`.

    Raises:
        ValueError: there is no such format.
    """

    name = "cluster-dump"

    def __init__(
        self,
        url: str | os.PathLike[str],
        exclude: Collection[str] = ("run_spec",),
        format_: str = "msgpack",
        **storage_options: Any,
    ) -> None:
        self.url = path_of(url, format_)
        self.exclude = tuple(exclude)
        self.format = format_
        self.storage_options = storage_options
        self.scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Note the scheduler that the dump is of."""
        self.scheduler = scheduler

    async def before_close(self) -> None:
        """Write the dump, while the workers are still there."""
        assert self.scheduler is not None
        await self.scheduler.dump_cluster_state_to_url(
            self.url, exclude=self.exclude, format=self.format, **self.storage_options
        )


__all__ = ["ClusterDump"]
