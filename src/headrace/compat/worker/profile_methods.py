"""Documented members of a Worker about the profile of its tasks; the worker's `Profiler` does the work."""

from __future__ import annotations

from collections import deque
from typing import Any

from headrace.profile import create, merge
from headrace.worker.execution.profiler import Profiles
from headrace.worker.server import WorkerServer


class ProfileMethods(WorkerServer):
    """The documented members of a `Worker` that are about its profile."""

    def trigger_profile(self) -> None:
        """Look at the threads that run tasks now, once, beside the regular samples."""
        if self.profiler is not None:
            self.profiler.sample()

    def cycle_profile(self) -> None:
        """Put what was collected since the last cycle into the history."""
        if self.profiler is not None:
            self.profiler.end_cycle()

    async def get_profile(
        self, start: float | None = None, stop: float | None = None, key: str | None = None, server: bool = False
    ) -> dict[str, Any]:
        """The profile of this worker's tasks.

        Args:
            start, stop: the span of time, in seconds since the epoch; all by default.
            key: only tasks of this prefix.
            server: of the event loop instead, which is watched from the first call on.
        """
        return await self.operations.profile(start, stop, key, server)

    async def get_profile_metadata(self, start: float | None = 0, stop: float | None = None) -> dict[str, Any]:
        """How many samples there are, over time; see `Profiler.metadata`."""
        return await self.operations.profile_metadata(start, stop)

    @property
    def profile_history(self) -> deque[tuple[float, dict[str, Any]]]:
        """(end of the cycle in seconds since the epoch, profile of all tasks), oldest first."""
        entries = list(self.profiler.history) if self.profiler is not None else []
        return deque((when, merge(create(), *profiles.values())) for when, profiles in entries)

    @property
    def profile_keys_history(self) -> deque[tuple[float, Profiles]]:
        """(end of the cycle in seconds since the epoch, {prefix: profile}), oldest first."""
        return deque(self.profiler.history if self.profiler is not None else ())

    @property
    def profile_recent(self) -> dict[str, Any]:
        """The profile of all tasks since the last cycle ended."""
        return merge(create(), *self.profile_keys.values())

    @property
    def profile_keys(self) -> Profiles:
        """The profiles since the last cycle ended, by prefix."""
        return self.profiler.recent() if self.profiler is not None else {}
