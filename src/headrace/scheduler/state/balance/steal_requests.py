"""Tasks that are asked back from a worker: to be run by an idle one, or because the worker pauses or is about to leave.

A request is open until the worker answers or goes. The worker gives a task back unless it has started; until the
answer the task stays on record as processing there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.common.keys import Key
from headrace.messages.worker import StealAnswer, StealRequest
from headrace.scheduler.state.placing.assignments import is_current
from headrace.scheduler.state.placing.promises import on_given_back
from headrace.scheduler.state.placing.restrictions import may_run, runs_somewhere

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState
    from headrace.scheduler.state.transitions.engine import Recommendations

#: Answers with which a worker has let go of a task. "released": it knows of no such assignment.
GIVEN_BACK = frozenset(("ready", "waiting", "constrained", "released"))
#: (what, time, key, victim's address, thief's address or "")
StealLine = tuple[str, float, Key, str, str]


@dataclass(slots=True, frozen=True)
class Steal:
    """An open request.

    Attributes:
        attempt: the assignment that is asked back.
        thief: who is to run it; `None` for whoever is chosen when it comes back.
        cost, thief_cost: its expected seconds for the victim and for the thief.
    """

    task: TaskState
    attempt: int
    victim: WorkerState
    thief: WorkerState | None
    cost: float
    thief_cost: float


class Steals:
    """Open requests by key, and what they amount to for each worker.

    Attributes:
        coming: tasks and seconds of work that are on their way to a worker.
        leaving: seconds of work that a worker has been asked to give back.
        log: what happened since it was last emptied.
        asked, asked_seconds: how many tasks were asked back for idle workers so far, and what they were expected to
            take there, by level (see `stealing.level`).
        moved, refused: how many of those went to the idle worker, and how many had begun.
    """

    def __init__(self) -> None:
        self.in_flight: dict[Key, Steal] = {}
        self.coming: dict[WorkerState, tuple[int, float]] = {}
        self.leaving: dict[WorkerState, float] = {}
        self.log: list[StealLine] = []
        self.asked: dict[int, int] = {}
        self.asked_seconds: dict[int, float] = {}
        self.moved = 0
        self.refused = 0

    def note_level(self, level: int, seconds: float) -> None:
        """Count a task that is asked back for an idle worker."""
        self.asked[level] = self.asked.get(level, 0) + 1
        self.asked_seconds[level] = self.asked_seconds.get(level, 0.0) + seconds

    def _open(self, steal: Steal) -> None:
        self.in_flight[steal.task.key] = steal
        self.leaving[steal.victim] = self.leaving.get(steal.victim, 0.0) + steal.cost
        if steal.thief is not None:
            count, cost = self.coming.get(steal.thief, (0, 0.0))
            self.coming[steal.thief] = (count + 1, cost + steal.thief_cost)

    def close(self, steal: Steal) -> None:
        """A request has been answered, or never will be."""
        del self.in_flight[steal.task.key]
        if not self.in_flight:  # sums of floats drift: nothing open is the chance to start from nothing
            self.coming.clear()
            self.leaving.clear()
            return
        if steal.victim in self.leaving:
            self.leaving[steal.victim] -= steal.cost
        if steal.thief in self.coming:
            count, cost = self.coming[steal.thief]
            self.coming[steal.thief] = (count - 1, cost - steal.thief_cost)

    def forget_worker(self, worker: WorkerState) -> None:
        """A worker has gone: it answers no more. What was to go there is placed when it comes back."""
        for steal in [steal for steal in self.in_flight.values() if steal.victim is worker]:
            self.close(steal)
        self.coming.pop(worker, None)
        self.leaving.pop(worker, None)


def request(
    state: SchedulerCore, task: TaskState, thief: WorkerState | None, cost: float = 0.0, thief_cost: float = 0.0
) -> None:
    """Ask a task back from the worker that it is on."""
    victim = task.processing_on
    assert victim is not None
    steals = state.steals
    open_one = steals.in_flight.get(task.key)
    if open_one is not None:
        if is_current(task, open_one.victim, open_one.attempt):
            return
        steals.close(open_one)  # of an assignment that has passed
    steals._open(Steal(task, task.attempt, victim, thief, cost, thief_cost))
    if thief is not None:
        steals.log.append(("request", state.shown, task.key, victim.address, thief.address))
    state.send(victim, StealRequest(task.key, task.attempt))


def recall_all(state: SchedulerCore, worker: WorkerState) -> None:
    """Ask back all that a worker has not started, for others to run."""
    for task in worker.processing:
        if task not in worker.long_running:
            request(state, task, None)


def recall_movable(state: SchedulerCore, worker: WorkerState) -> None:
    """Ask back what a worker has not started and a running one may run; the rest waits there until it runs again."""
    for task in worker.processing:
        if task not in worker.long_running and runs_somewhere(state, task):
            request(state, task, None)


def on_answer(state: SchedulerCore, worker: WorkerState, message: StealAnswer) -> Recommendations:
    """A worker has given a task back, or has started it."""
    steals = state.steals
    steal = steals.in_flight.get(message.key)
    if steal is not None and (steal.attempt != message.attempt or steal.victim is not worker):
        steal = None
    if steal is not None:
        steals.close(steal)
    task = state.tasks.get(message.key)
    if not is_current(task, worker, message.attempt):
        if message.state in GIVEN_BACK:
            on_given_back(state, worker, task, message.attempt)
        return {}
    if message.state not in GIVEN_BACK:
        steals.refused += steal is not None and steal.thief is not None
        steals.log.append(("already-" + message.state, state.shown, task.key, worker.address, ""))
        return {}
    thief = steal.thief if steal is not None else None
    if thief is None or thief not in state.running or not may_run(state, task, thief):
        return {task: "released"}
    steals.moved += 1
    steals.log.append(("confirm", state.shown, task.key, worker.address, thief.address))
    state.chosen[task] = thief
    return {task: "processing"}
