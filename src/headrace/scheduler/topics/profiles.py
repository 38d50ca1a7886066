"""Statistical profiles of the workers' tasks, put together, and of the scheduler's own event loop.

Trees are merged in a thread: they may be large.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from functools import partial
from typing import Any

from headrace import config
from headrace.profile import Watcher, get_profile, merge
from headrace.rpc.server import Operation
from headrace.scheduler.topics.cluster_requests import ClusterRequests


class Profiles:
    """Profiles of the workers and of the scheduler.

    Args:
        cluster: asks the workers.
    """

    def __init__(self, cluster: ClusterRequests) -> None:
        self.cluster = cluster
        #: samples the event loop, once somebody has asked for that
        self._loop_watcher: Watcher | None = None

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "profile": Operation(self.get_profile, repeatable=True),
            "profile_metadata": Operation(self.get_profile_metadata),
        }

    async def get_profile(
        self,
        workers: Iterable[str] | None = None,
        scheduler: bool = False,
        server: bool = False,
        merge_workers: bool = True,
        start: float | None = None,
        stop: float | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """The profile of the workers' tasks, as `headrace.profile` describes it.

        Args:
            workers: addresses or names; all by default.
            scheduler: of the scheduler's event loop instead, which is watched from the first call on.
            server: of the workers' event loops instead.
            merge_workers: put all together; else the profiles come by address.
            start, stop: the span of time, in seconds since the epoch; all by default.
            key: only tasks of this prefix.
        """
        loop = asyncio.get_running_loop()
        if scheduler:
            return await loop.run_in_executor(None, self._loop_profile, threading.get_ident(), start, stop)
        request = {"op": "profile", "start": start, "stop": stop, "key": key, "server": server}
        profiles = await self.cluster.ask(request, workers)
        return await loop.run_in_executor(None, partial(merge, *profiles.values())) if merge_workers else profiles

    def _loop_profile(self, thread: int, start: float | None, stop: float | None) -> dict[str, Any]:
        if self._loop_watcher is None:
            interval = config.parse_seconds(config.get("distributed.worker.profile.interval"))
            cycle = config.parse_seconds(config.get("distributed.worker.profile.cycle"))
            self._loop_watcher = Watcher(thread, interval, cycle)
        return get_profile(list(self._loop_watcher.log), None, start, stop)

    def end_watching(self) -> None:
        """End the thread that samples the event loop, if there is one."""
        if self._loop_watcher is not None:
            self._loop_watcher.close()

    async def get_profile_metadata(
        self,
        workers: Iterable[str] | None = None,
        start: float | None = 0,
        stop: float | None = None,
        profile_cycle_interval: float | str | None = None,
    ) -> dict[str, Any]:
        """The number of samples that the workers have taken, over time.

        Args:
            workers: addresses or names; all by default.
            start, stop: the span of time, in seconds since the epoch; all by default.
            profile_cycle_interval: seconds (or text) that share an entry; the workers' cycle by default.

        Returns:
            `{"counts": [(time, samples), …], "keys": {prefix: [(time, samples), …]}}`, oldest first.
        """
        default = config.get("distributed.worker.profile.cycle")
        cycle = config.parse_seconds(default if profile_cycle_interval is None else profile_cycle_interval)
        request = {"op": "profile_metadata", "start": start, "stop": stop}
        found = (await self.cluster.ask(request, workers)).values()
        prefixes = {prefix for each in found for prefix in each["keys"]}
        return {
            "counts": _by_cycle([each["counts"] for each in found], cycle),
            "keys": {prefix: _by_cycle([each["keys"].get(prefix, ()) for each in found], cycle) for prefix in prefixes},
        }


def _by_cycle(series: Iterable[Iterable[tuple[float, int]]], cycle: float) -> list[tuple[float, int]]:
    """Add up counts whose times fall into the same cycle; each at its end."""
    totals: dict[float, int] = {}
    for counts in series:
        for when, count in counts:
            end = when // cycle * cycle + cycle
            totals[end] = totals.get(end, 0) + count
    return sorted(totals.items())
