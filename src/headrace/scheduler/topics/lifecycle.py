"""The life of a scheduler: its file, preloads, closing when idle, tasks that wait too long for a worker, and workers'
abstract resources. A part that is not configured costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from headrace import clock, config
from headrace.common.keys import from_wire
from headrace.exceptions import BadRequestError, LostActorError, NoValidWorkerError, NoWorkerError
from headrace.messages.base import Payload
from headrace.preloading import configured_preloads
from headrace.protocol import dumps
from headrace.rpc import PeriodicCallback
from headrace.rpc.scheduler_file import remove_scheduler_file, write_scheduler_file
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell, logger
from headrace.scheduler.state.placing.unrunnable import restrictions_of
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.topics.cluster_requests import ClusterRequests
from headrace.scheduler.worker_directory import WorkerDirectory

#: Looks at the clock within each timeout, and at most so many seconds between two.
LOOKS = 4
LONGEST_LOOK = 5.0
#: Seconds between two looks at how far the wall clock has been set.
FOLLOW_SECONDS = 1.0


def seconds_or_none(value: Any, key: str) -> float | None:
    """A timeout as given, or else as configured; None for none.

    Raises:
        ValueError: not a time, or negative; names the setting.
    """
    if value is None:
        value = config.get(key, None)
    if value is None or value is False:
        return None
    try:
        seconds = config.parse_seconds(value)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{key} must be a time such as '60s', not {value!r}") from error
    if seconds < 0:
        raise ValueError(f"{key} must not be negative, and is {value!r}")
    return seconds


def actor_payload(text: str) -> Payload:
    """The exception that clients raise for an actor that was lost with its worker."""
    return dumps(LostActorError(text))


def too_large_payload(text: str) -> Payload:
    """The exception that clients raise for a task that no worker has memory for."""
    return dumps(MemoryError(text))


class Lifecycle:
    """Start and end, and what happens by the clock in between.

    Args:
        directory: finds workers by name.
        cluster: identifies the cluster, for the scheduler's file.
        scheduler_file: where to tell how this scheduler is reached, or None.
        idle_timeout: as the constructor of the scheduler was given it.
        preload, preload_argv: likewise.

    Attributes:
        idle_timeout, no_workers_timeout: seconds, or None.
        idle_since: since when there has been nothing to do (seconds since the epoch), or None.
        preloads: user code that runs as this starts and ends.
    """

    def __init__(
        self,
        shell: Shell,
        directory: WorkerDirectory,
        cluster: ClusterRequests,
        *,
        scheduler_file: str | None,
        idle_timeout: object,
        preload: str | Iterable[str] | None,
        preload_argv: Iterable[Any] | None,
    ) -> None:
        self.shell = shell
        self.core = shell.core
        self.directory = directory
        self.cluster = cluster
        self.scheduler_file = scheduler_file
        self.idle_timeout = seconds_or_none(idle_timeout, "distributed.scheduler.idle-timeout")
        self.no_workers_timeout = seconds_or_none(None, "distributed.scheduler.no-workers-timeout")
        self.idle_since: float | None = None
        self._idle_from = 0.0
        self._transitions_seen = -1
        self.preloads = configured_preloads(shell.facade, "scheduler", preload, preload_argv)

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "add_resources": Operation(self.add_resources),
            "set_resources": Operation(self.add_resources),
            "check_idle": Operation(self.check_idle),
            "terminate": Operation(self._terminate),
        }

    async def begin_life(self) -> None:
        """The scheduler listens: start what runs by the clock, preloads, and tell where it is."""
        self._follow_wall_clock()
        self.shell.periodic_callbacks["wall-clock"] = PeriodicCallback(self._follow_wall_clock, 1000 * FOLLOW_SECONDS)
        self.shell.periodic_callbacks["wall-clock"].start()
        if self.idle_timeout is not None:
            self.idle_since, self._idle_from = time.time(), self.shell.now()
            self._look_every("idle-timeout", self.check_idle, self.idle_timeout)
        if self.no_workers_timeout is not None:
            self._look_every("no-workers-timeout", self._check_unrunnable, self.no_workers_timeout)
        await self.preloads.start()
        if self.scheduler_file:
            token = self.shell.security.access_rules("scheduler").current_token()
            write_scheduler_file(self.scheduler_file, self.cluster.identity(), token)

    async def end_life(self) -> None:
        """The scheduler closes."""
        await self.preloads.teardown()
        if self.scheduler_file:
            remove_scheduler_file(self.scheduler_file, self.shell.id)

    def _follow_wall_clock(self) -> None:
        """Times that are shown are those of the wall clock, which somebody may have set."""
        self.core.show_times(clock.shift())

    def _look_every(self, name: str, check: Callable[[], object], timeout: float) -> None:
        period = min(max(timeout / LOOKS, 0.01), LONGEST_LOOK)
        self.shell.periodic_callbacks[name] = PeriodicCallback(check, period * 1000)
        self.shell.periodic_callbacks[name].start()

    def check_idle(self) -> float | None:
        """Close if there has been nothing to do for `idle_timeout` seconds; returns since when there has been nothing.

        Work is a task that runs or waits for a place to run; anything that happened to a task since the last look
        counts as well.
        """
        state = self.core
        busy = (
            bool(state.queued)
            or bool(state.unrunnable)
            or bool(state.delays)
            or state.transition_counter != self._transitions_seen
            or any(worker.processing for worker in state.workers.values())
        )
        self._transitions_seen = state.transition_counter
        if busy:
            self.idle_since = None
            return None
        now = self.shell.now()
        if self.idle_since is None:
            self.idle_since, self._idle_from = time.time(), now
            return self.idle_since
        if self.idle_timeout is not None and now - self._idle_from >= self.idle_timeout:
            logger.info("Scheduler closing after being idle for %.2f s", now - self._idle_from)
            self.shell.run_detached(self.shell.facade.close(reason="idle-timeout-exceeded"))
        return self.idle_since

    def _terminate(self, reason: str = "asked to terminate") -> dict[str, str]:
        self.shell.run_detached(self.shell.facade.close(reason=reason))
        return {"status": "OK"}

    def _check_unrunnable(self) -> None:
        if self.core.unrunnable and self.no_workers_timeout is not None:
            self.core.expire_unrunnable(self.no_workers_timeout, self.shell.now())
            self.shell.flush()

    def unrunnable_payload(self, task: TaskState, timeout: float, any_worker: bool) -> Payload:
        """The exception that clients raise for a task that waited too long for a worker."""
        key = from_wire(task.key)
        error: Exception = NoWorkerError(key, timeout)
        if any_worker:
            error = NoValidWorkerError(key, *restrictions_of(self.core, task), timeout)
        logger.error("Task %r marked as failed: %s", key, error)
        return dumps(error)

    # Abstract resources

    def add_resources(self, worker: str, resources: dict[str, float] | None = None) -> str:
        """Set the amounts of some of a worker's abstract resources. Returns "OK".

        Raises:
            ValueError: there is no such worker, or an amount is negative.
        """
        record = self.core.workers.get(self.directory.coerce_address(worker))
        if record is None:
            raise BadRequestError(f"there is no worker at {worker!r} whose resources could be set")
        amounts = {str(name): float(amount) for name, amount in (resources or {}).items()}
        for name, amount in amounts.items():
            if amount < 0:
                raise BadRequestError(f"the worker {worker} cannot have {amount:g} of the resource {name!r}")
        self.core.set_resources(record, amounts, self.shell.now())
        self.shell.flush()
        return "OK"

    def remove_resources(self, worker: str) -> None:
        """A worker has no abstract resources any more."""
        record = self.core.workers.get(self.directory.coerce_address(worker))
        if record is not None:
            self.core.set_resources(record, dict.fromkeys(record.resources, 0.0), self.shell.now())
            self.shell.flush()
