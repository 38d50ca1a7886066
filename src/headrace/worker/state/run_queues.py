"""The queues of tasks that wait for a thread or for resources, the slots of those that run, and how far ahead of free
threads tasks are handed out. Nothing here decides which task runs next: see `computing`."""

from __future__ import annotations

from heapq import heapify, heappush
from typing import TYPE_CHECKING

from .tasks import TaskState

if TYPE_CHECKING:
    from .core import WorkerCore

#: Expected seconds of work, per thread, that may be handed out before a thread is free.
AHEAD_SECONDS = 0.010
#: Tasks, per thread, that may be handed out at a time.
AHEAD_TASKS = 64
#: Bits that a worker's count of queued and stored tasks stays within.
TURNS = 48


def expected_seconds(state: WorkerCore, task: TaskState) -> float:
    """Seconds that the task is expected to take, if it may be handed out ahead of a free thread; else -1.

    A task that takes resources, or names its executor, is never handed out ahead: it may not wait for our threads.
    """
    if task.resource_restrictions or "executor" in task.annotations:
        return -1.0
    if task.duration >= 0:
        return task.duration
    return state.learned.get(task.function_number, -1.0)


def room(state: WorkerCore, expected: float) -> bool:
    """Whether a task of this expected duration (negative: unknown) may go to the executor now.

    A task of unknown duration waits for a free thread: a more urgent one that comes meanwhile could not overtake it.
    """
    count = len(state.executing)
    threads = state.nthreads
    if count < threads:
        return True
    return expected >= 0 and count < AHEAD_TASKS * threads and state.backlog + expected <= AHEAD_SECONDS * threads


def push_ready(state: WorkerCore, task: TaskState) -> None:
    """Queue a task for a thread."""
    heappush(state.ready, (task.priority, _turn(state, task), task))


def push_constrained(state: WorkerCore, task: TaskState) -> None:
    """Queue a task for resources."""
    demand = tuple(sorted((task.resource_restrictions or {}).items()))
    heappush(state.constrained.setdefault(demand, []), (task.priority, _turn(state, task), task))


def _turn(state: WorkerCore, task: TaskState) -> int:
    """The number that orders tasks of one priority, as calls of `submit` in a row have: smaller runs earlier.

    What needs the latest data goes first, so that work that has begun is finished, and its data can go, before other
    work begins. Tasks that need the same data, or none, run in the order in which they came.
    """
    turn = state.counter = state.counter + 1
    if task.dependencies:
        turn -= max([dependency.stored for dependency in task.dependencies]) << TURNS
    return turn


def note_stale_ready(state: WorkerCore) -> None:
    """A queued task has moved on; sweep when most of the heap is such."""
    state.stale_ready += 1
    if state.stale_ready > 100 and state.stale_ready > len(state.ready) // 2:
        state.ready = [entry for entry in state.ready if entry[2].state == "ready"]
        heapify(state.ready)
        state.stale_ready = 0


def stop(state: WorkerCore, task: TaskState) -> None:
    """A task no longer takes a slot (it has ended, seceded or been recalled)."""
    executing = state.executing
    executing.discard(task)
    if task.ahead:
        state.backlog -= task.ahead
        task.ahead = 0.0
    if not executing:
        state.backlog = 0.0  # a sum of floats drifts


def give_back_resources(state: WorkerCore, task: TaskState) -> None:
    """A task has ended."""
    for name, amount in (task.held_resources or {}).items():
        state.available_resources[name] += amount
    task.held_resources = None


def fits(state: WorkerCore, demand: tuple[tuple[str, float], ...]) -> bool:
    """Whether the resources for a demand are free."""
    available = state.available_resources
    return all(available.get(name, 0.0) >= amount for name, amount in demand)
