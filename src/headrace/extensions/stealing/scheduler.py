"""The clock and the log of work stealing. `headrace.scheduler.state.balance.stealing` decides who steals what."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from headrace import clock, config
from headrace.common.keys import to_wire
from headrace.extensions.stealing.plugin_hooks import PluginHooks
from headrace.messages.worker import StealAnswer
from headrace.rpc.loops.periodic import PeriodicCallback
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


class WorkStealing(PluginHooks):
    """Has idle workers given tasks that busy ones have not started.

    Looks begin with the scheduler if `distributed.scheduler.work-stealing` is on, and follow the interval
    `distributed.scheduler.work-stealing-interval`. What happens is logged under the topic "stealing".

    Args:
        scheduler: whose workers.

    Attributes:
        cost_multipliers: for each level, the transfer time for one second of computing up to which tasks are of it.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.interval = config.parse_seconds(config.get("distributed.scheduler.work-stealing-interval", "1s"))
        self.cost_multipliers = [0.0, *(2.0 ** (number - EVEN_LEVEL) for number in range(1, LAST_LEVEL + 1))]
        pace = min(self.interval, max(SHORTEST_LOOK, self.interval / LOOKS_PER_INTERVAL))
        self._callback = PeriodicCallback(self._look, pace * 1000)
        self._not_before = 0.0
        scheduler.periodic_callbacks["stealing"] = self._callback

    def scheduler_started(self) -> None:
        """The scheduler runs: begin to look, unless the configuration says not to."""
        if config.truth("distributed.scheduler.work-stealing"):
            self._callback.start()

    async def start(self, scheduler: Any = None) -> None:
        """Begin to look."""
        self._callback.start()

    async def stop(self) -> None:
        """Look no more."""
        self._callback.stop()

    def teardown(self) -> None:
        """As `stop`, without waiting."""
        self._callback.stop()

    @property
    def in_flight(self) -> dict[TaskState, InFlightInfo]:
        """Tasks that have been asked back for a thief, until the answer comes."""
        return {
            steal.task: InFlightInfo(
                victim=steal.victim, thief=steal.thief, victim_duration=steal.cost, thief_duration=steal.thief_cost
            )
            for steal in self.scheduler.state.steals.in_flight.values()
            if steal.thief is not None
        }

    def _look(self) -> None:
        state = self.scheduler.state
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
        asked = balance(self.scheduler.state, clock.now())
        if asked:
            self.scheduler.flush()
            self._log_outcomes()
        return asked

    def move_task_request(self, ts: TaskState, victim: WorkerState, thief: WorkerState) -> None:
        """Ask one task back from the worker that it is on, for another."""
        if ts.processing_on is not victim:
            return
        state = self.scheduler.state
        state.look_around("steal", clock.now())
        steal_requests.request(state, ts, thief, expected_cost(state, ts, victim), expected_cost(state, ts, thief))
        self.scheduler.flush()

    def steal_time_ratio(self, ts: TaskState) -> tuple[float | None, int | None]:
        """Transfer time over computing time of a task, and its level; `(None, None)` if it is not to be moved."""
        worker = ts.processing_on
        if worker is None or ts.options.actor:
            return None, None
        state = self.scheduler.state
        compute = expected_cost(state, ts, worker)
        transfer = transfer_seconds(state, ts, None)
        found = level(transfer, compute)
        return (None, None) if found is None else (transfer / compute if compute > 0 else 0.0, found)

    def stealing_objective(
        self, ts: TaskState, ws: WorkerState, *, occupancies: Mapping[WorkerState, float] | None = None
    ) -> tuple[float, ...]:
        """What is least on the worker that should be given the task: expected start in seconds, then bytes held.

        Args:
            occupancies: expected seconds of work by worker; by default what each has, with the requests under way.
        """
        state = self.scheduler.state
        _, coming = state.steals.coming.get(ws, (0, 0.0))
        if occupancies is not None and ws in occupancies:
            occupancy = occupancies[ws]
        else:
            occupancy = ws.occupancy + coming - state.steals.leaving.get(ws, 0.0)
        return (occupancy / ws.nthreads + transfer_seconds(state, ts, ws), ws.nbytes)

    def move_task_confirm(self, *, key: Any, state: str, stimulus_id: str, worker: Any = None) -> None:
        """A victim answers: it had the task in this state. One that has not started it gives it away.

        Args:
            worker: the victim's address; by default where the task is.
        """
        task = self.scheduler.tasks.get(to_wire(key))
        victim = task.processing_on if task is not None else None
        if task is None or victim is None or (worker is not None and worker != victim.address):
            return
        self.scheduler.state.handle_batch(victim, [StealAnswer(task.key, task.attempt, state)], clock.now())
        self.scheduler.flush()

    def put_key_in_stealable(self, ts: TaskState) -> None:
        """Nothing: what can be stolen is found among what workers have when one is idle, and not kept up to date."""

    def remove_key_from_stealable(self, ts: TaskState) -> None:
        """Nothing; see `put_key_in_stealable`."""

    def recalculate_cost(self, ts: TaskState) -> None:
        """Look anew at what a task that was sent to a worker is expected to cost there."""
        worker = ts.processing_on
        if worker is not None:
            change_cost(self.scheduler.state, worker, ts, expected_cost(self.scheduler.state, ts, worker))

    def log(self, msg: Any) -> None:
        """Publish under the topic "stealing"."""
        self.scheduler.log_event("stealing", msg)

    def _log_outcomes(self) -> None:
        log = self.scheduler.state.steals.log
        if log:
            lines, log[:] = list(log), []
            self.log(lines)

    def story(self, *keys_or_ts: Any) -> list[steal_requests.StealLine]:
        """What was logged about these tasks: (what, time, key, victim's address, thief's address), oldest first."""
        self._log_outcomes()
        keys = {getattr(key, "key", key) for key in keys_or_ts}
        events: Iterable[tuple[float, Any]] = self.scheduler.events.get("stealing", ())
        return [line for _, lines in events if isinstance(lines, list) for line in lines if line[2] in keys]
