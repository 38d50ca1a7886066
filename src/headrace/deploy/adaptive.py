"""Scaling of a cluster by its scheduler's load: asks the scheduler at intervals, and tells the cluster.

Workers are closed only after the scheduler has retired them, that is, when nothing is lost with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from inspect import isawaitable
from typing import Any

from headrace.common.status import Status
from headrace.config import get, parse_seconds, seconds_of
from headrace.protocol import dumps
from headrace.rpc import PeriodicCallback

from .adaptive_core import AdaptiveCore, logger
from .link import LocalLink

__all__ = ["Adaptive", "AdaptiveCore"]


class Adaptive(AdaptiveCore):
    """Has a cluster scaled by the scheduler's load, from when it is made until `stop`.

    Usually made by `cluster.adapt(...)`. Arguments that are not given are read from `distributed.adaptive` in the
    configuration.

    Args:
        cluster: has `scale(n)` (or `scale_up`) and `scale_down(workers)`, and the sets `plan`, `requested`, `observed`.
        interval: seconds between two looks, or text such as "500ms".
        minimum, maximum, wait_count: see `AdaptiveCore`.
        target_duration: seconds, or text, in which the work at hand should be done; less means more workers.
        worker_key: groups workers (WorkerStates) that can only be closed together.
        kwargs: for `Scheduler.workers_to_close`.

    Attributes:
        periodic_callback: calls `adapt` at intervals; None after `stop`.
        state: "starting", "running", "inactive" (no interval) or "stopped".

    Raises:
        TypeError, ValueError: the bounds make no sense; the message says how.
    """

    def __init__(
        self,
        cluster: Any,
        interval: float | str | timedelta | None = None,
        minimum: int | None = None,
        maximum: float | None = None,
        wait_count: int | None = None,
        target_duration: float | str | timedelta | None = None,
        worker_key: Callable[[Any], Any] | None = None,
        **kwargs: object,
    ) -> None:
        given = get("distributed.adaptive")
        super().__init__(
            minimum=given["minimum"] if minimum is None else minimum,
            maximum=_bound(given["maximum"]) if maximum is None else maximum,
            wait_count=given["wait-count"] if wait_count is None else wait_count,
        )
        self.cluster = cluster
        self.interval = _seconds(given["interval"] if interval is None else interval)
        self.target_duration = _seconds(given["target-duration"] if target_duration is None else target_duration)
        if not self.target_duration > 0:
            raise ValueError(f"target_duration must be positive, not {target_duration!r}")
        self.worker_key = worker_key
        self._workers_to_close_kwargs = kwargs
        self.periodic_callback: PeriodicCallback | None = None
        self.state = "inactive"
        #: whether a call of `cluster.scale` now comes from this object
        self.is_scaling = False
        if self.interval > 0:
            self.state = "starting"
            self.periodic_callback = PeriodicCallback(self.adapt, self.interval * 1000)
            self.loop.add_callback(self._start)

    def _start(self) -> None:
        if self.periodic_callback is not None and self.state == "starting":
            self.state = "running"
            self.periodic_callback.start()

    def stop(self, reason: str = "unknown") -> None:
        """Leave the cluster as it is from now on; safe to call from any thread, and again."""
        callback, self.periodic_callback = self.periodic_callback, None
        if self.state == "stopped":
            return
        self.state = "stopped"
        logger.debug("Adaptive stopped: %s", reason)
        if callback is None:
            return
        if self.loop.runs_here:
            callback.stop()
        else:
            self.loop.add_callback(callback.stop)

    # The cluster and its scheduler

    @property
    def loop(self) -> Any:
        """The cluster's event loop."""
        return self.cluster.loop

    @property
    def scheduler(self) -> Any:
        """The scheduler's operations, as asynchronous methods."""
        return self.cluster.scheduler_comm

    @property
    def plan(self) -> set[Any]:
        return set(self.cluster.plan)

    @property
    def requested(self) -> set[Any]:
        return set(self.cluster.requested)

    @property
    def observed(self) -> set[Any]:
        return set(self.cluster.observed)

    # Questions and actions

    async def adapt(self) -> None:
        """Look, decide and scale, once. Does nothing without a scheduler, or while the cluster starts.

        Stops once the cluster's status says that it closes, as subclasses set it themselves.
        """
        if self.cluster.status in (Status.closing, Status.closed, Status.failed):
            self.stop("the cluster closes")
            return
        if self.state == "stopped" or self.cluster.status is not Status.running or self.scheduler is None:
            return
        try:
            await super().adapt()
        except (OSError, RuntimeError) as error:
            logger.warning("Adaptive scaling of cluster %s failed: %s", self.cluster.name, error)

    async def target(self) -> int:
        """The number of workers that the scheduler wants, by `Scheduler.adaptive_target`."""
        return int(await self.scheduler.adaptive_target(target_duration=self.target_duration))

    async def workers_to_close(self, target: int) -> list[Any]:
        """Names of workers that the scheduler can spare, by `Scheduler.workers_to_close`."""
        key = self.worker_key or getattr(self.cluster, "worker_key", None)
        if key is not None and not isinstance(self.scheduler, LocalLink):
            key = dumps(key)
        return list(
            await self.scheduler.workers_to_close(
                key=key, target=target, minimum=self.minimum, attribute="name", **self._workers_to_close_kwargs
            )
        )

    async def recommendations(self, target: int) -> dict[str, Any]:
        """Recommend as `AdaptiveCore` does, after starting again workers that are planned and were lost."""
        correct = getattr(self.cluster, "_correct_state", None)
        if correct is not None and self.plan != self.requested:
            await correct()
        return await super().recommendations(target)

    async def scale_up(self, n: int) -> None:
        """Scale the cluster up to `n` workers; returns once they were asked for."""
        specifications_for = getattr(self.cluster, "specifications_for", None)
        self.is_scaling = True
        try:
            scaling = self.cluster.scale(n if specifications_for is None else specifications_for(n))
        finally:
            self.is_scaling = False
        await _awaited(scaling)

    async def scale_down(self, workers: Iterable[Any]) -> None:
        """Close workers once the scheduler has retired them; workers that it cannot spare now stay."""
        names = list(workers)
        present = self.observed.intersection(names)
        retired: set[Any] = set(names) - present
        if present:
            reply = await self.scheduler.retire_workers(names=sorted(present, key=str), close_workers=True, remove=True)
            retired.update(info["name"] for info in reply.values())
        if retired:
            await _awaited(self.cluster.scale_down([name for name in names if name in retired]))


async def _awaited(result: object) -> None:
    if isawaitable(result):
        await result


def _bound(value: object) -> Any:
    """A configured number of workers; infinity is a text in variables of the environment, and `.inf` in YAML."""
    return math.inf if value in ("inf", ".inf") else value


def _seconds(value: float | str | timedelta | None) -> float:
    return parse_seconds(seconds_of(value))
