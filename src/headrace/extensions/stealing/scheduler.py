"""The clock and the log of work stealing. `headrace.scheduler.state.balance.stealing` decides which tasks move."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from headrace import config
from headrace.common.keys import to_wire
from headrace.messages.worker import StealAnswer
from headrace.rpc.loops.periodic import PeriodicCallback
from headrace.scheduler.shell import HasShell, Shell, shell_of
from headrace.scheduler.state.balance import steal_requests
from headrace.scheduler.state.balance.stealing import (
    EVEN_LEVEL,
    LAST_LEVEL,
    balance,
    level,
    transfer_seconds,
)
from headrace.scheduler.state.placing.load import change_cost
from headrace.scheduler.state.placing.occupancy import expected_cost
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState

#: A worker that runs idle is noticed in this share of the interval.
LOOKS_PER_INTERVAL = 20
SHORTEST_LOOK = 0.01
#: Looks may take this share of the scheduler's time while workers are idle and there is nothing to steal for them.
FRUITLESS_SHARE = 0.02


class InFlightInfo(dict[str, Any]):
    """An open request: `victim`, `thief`, `victim_duration` and `thief_duration` in seconds."""


class StealingExtension:
    """Has idle workers given tasks that busy ones have not started.

    Looks begin with the scheduler if `distributed.scheduler.work-stealing` is on, and follow the interval
    `distributed.scheduler.work-stealing-interval`. What happens is logged under the topic "stealing".

    Args:
        scheduler: the scheduler of the workers.

    Attributes:
        scheduler: the public Scheduler.
        cost_multipliers: for each level, the transfer time for one second of computing up to which tasks are of it.
    """

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self._shell = shell_of(scheduler)
        self.scheduler = self._shell.facade
        self.interval = config.parse_seconds(config.get("distributed.scheduler.work-stealing-interval", "1s"))
        self.cost_multipliers = [0.0, *(2.0 ** (number - EVEN_LEVEL) for number in range(1, LAST_LEVEL + 1))]
        pace = min(self.interval, max(SHORTEST_LOOK, self.interval / LOOKS_PER_INTERVAL))
        self._callback = PeriodicCallback(self._look, pace * 1000)
        self._not_before = 0.0
        self._shell.periodic_callbacks["stealing"] = self._callback

    def scheduler_started(self) -> None:
        """The scheduler runs: begin to look, unless the configuration says not to."""
        if config.truth("distributed.scheduler.work-stealing"):
            self._callback.start()

    async def start(self, scheduler: object = None) -> None:
        """Begin to look."""
        self._callback.start()

    async def stop(self) -> None:
        """Look no more."""
        self._callback.stop()

    def teardown(self) -> None:
        """Look no more; the same as `stop`, for callers that cannot wait."""
        self._callback.stop()

    @property
    def in_flight(self) -> dict[TaskState, InFlightInfo]:
        """Tasks that have been asked back for a thief, until the answer comes."""
        return {
            steal.task: InFlightInfo(
                victim=steal.victim, thief=steal.thief, victim_duration=steal.cost, thief_duration=steal.thief_cost
            )
            for steal in self._shell.core.steals.in_flight.values()
            if steal.thief is not None
        }

    def _look(self) -> None:
        state = self._shell.core
        if state.steals.log:
            self._log_outcomes()
        if not state.idle or state.total_occupancy <= 0:
            return
        began = time.perf_counter()
        if began >= self._not_before and not self.balance():
            ended = time.perf_counter()
            self._not_before = ended + min(self.interval, (ended - began) / FRUITLESS_SHARE)

    def balance(self) -> int:
        """Ask tasks back from busy workers for idle ones, now; returns how many."""
        asked = balance(self._shell.core, self._shell.now())
        if asked:
            self._shell.flush()
            self._log_outcomes()
        return asked

    def move_task_request(self, ts: TaskState, victim: WorkerState, thief: WorkerState) -> None:
        """Ask one task back from the worker that it is on, for another."""
        if ts.processing_on is not victim:
            return
        state = self._shell.core
        state.look_around("steal", self._shell.now())
        steal_requests.request(state, ts, thief, expected_cost(state, ts, victim), expected_cost(state, ts, thief))
        self._shell.flush()

    def steal_time_ratio(self, ts: TaskState) -> tuple[float | None, int | None]:
        """Transfer time over computing time of a task, and its level; `(None, None)` if it is not to be moved."""
        worker = ts.processing_on
        if worker is None or ts.options.actor:
            return None, None
        state = self._shell.core
        compute = expected_cost(state, ts, worker)
        transfer = transfer_seconds(state, ts, None)
        found = level(transfer, compute)
        return (None, None) if found is None else (transfer / compute if compute > 0 else 0.0, found)

    def stealing_objective(
        self, ts: TaskState, ws: WorkerState, *, occupancies: Mapping[WorkerState, float] | None = None
    ) -> tuple[float, ...]:
        """The cost of a worker for a task, the least of which is best: expected start in seconds, then bytes held.

        Args:
            occupancies: expected seconds of work by worker; by default those of all tasks of each worker, with the
                requests under way.
        """
        state = self._shell.core
        _, coming = state.steals.coming.get(ws, (0, 0.0))
        if occupancies is not None and ws in occupancies:
            occupancy = occupancies[ws]
        else:
            occupancy = ws.occupancy + coming - state.steals.leaving.get(ws, 0.0)
        return (occupancy / ws.nthreads + transfer_seconds(state, ts, ws), ws.nbytes)

    def move_task_confirm(self, *, key: object, state: str, stimulus_id: str, worker: str | None = None) -> None:
        """Take a victim's answer: it had the task in this state. A victim that has not started the task gives it away.

        Args:
            worker: the victim's address; by default that of the worker on which the task is.
        """
        task = self._shell.core.tasks.get(to_wire(key))
        victim = task.processing_on if task is not None else None
        if task is None or victim is None or (worker is not None and worker != victim.address):
            return
        self._shell.core.handle_batch(victim, [StealAnswer(task.key, task.attempt, state)], self._shell.now())
        self._shell.flush()

    def put_key_in_stealable(self, ts: TaskState) -> None:
        """Do nothing: tasks that can be stolen are looked for when a worker is idle, not kept up to date."""

    def remove_key_from_stealable(self, ts: TaskState) -> None:
        """Do nothing; see `put_key_in_stealable`."""

    def recalculate_cost(self, ts: TaskState) -> None:
        """Estimate anew the cost of a task on the worker that it was sent to."""
        worker = ts.processing_on
        if worker is not None:
            change_cost(self._shell.core, worker, ts, expected_cost(self._shell.core, ts, worker))

    def log(self, msg: object) -> None:
        """Publish under the topic "stealing"."""
        self._shell.log_event("stealing", msg)

    def _log_outcomes(self) -> None:
        log = self._shell.core.steals.log
        if log:
            lines, log[:] = list(log), []
            self.log(lines)

    def story(self, *keys_or_ts: object) -> list[steal_requests.StealLine]:
        """Lines of the log about these tasks: (what, time, key, victim's address, thief's address), oldest first."""
        self._log_outcomes()
        keys = {getattr(key, "key", key) for key in keys_or_ts}
        events: Iterable[tuple[float, Any]] = self._shell.events.get("stealing", ())
        return [line for _, lines in events if isinstance(lines, list) for line in lines if line[2] in keys]
