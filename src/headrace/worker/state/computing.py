"""Which task runs next: the ready and constrained heaps, and how far the executor is fed ahead."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from .effects import Execute
from .tasks import TaskState

if TYPE_CHECKING:
    from .core import WorkerState

#: Expected seconds of work, per thread, that may be handed out before a thread is free.
AHEAD_SECONDS = 0.010
#: Tasks, per thread, that may be handed out at a time.
AHEAD_TASKS = 64


def expected_seconds(state: WorkerState, task: TaskState) -> float:
    """How long the task will take, if it may be handed out ahead of a free thread; else -1.

    What takes resources or names its executor is never handed out ahead: neither is known to wait for our threads.
    """
    if task.resource_restrictions or "executor" in task.annotations:
        return -1.0
    if task.duration >= 0:
        return task.duration
    return state.learned.get(task.function_number, -1.0)


def room(state: WorkerState, expected: float) -> bool:
    """Whether a task of this expected duration (negative: unknown) may go to the executor now."""
    count = len(state.executing)
    threads = state.nthreads
    if count < threads:
        return True
    return expected >= 0 and count < AHEAD_TASKS * threads and state.backlog + expected <= AHEAD_SECONDS * threads


def push_ready(state: WorkerState, task: TaskState) -> None:
    """Queue a task for a thread."""
    state.counter += 1
    heappush(state.ready, (task.priority, state.counter, task))


def push_constrained(state: WorkerState, task: TaskState) -> None:
    """Queue a task for resources."""
    state.counter += 1
    demand = tuple(sorted((task.resource_restrictions or {}).items()))
    heappush(state.constrained.setdefault(demand, []), (task.priority, state.counter, task))


def note_stale_ready(state: WorkerState) -> None:
    """A queued task has moved on; sweep when most of the heap is such."""
    state.stale_ready += 1
    if state.stale_ready > 100 and state.stale_ready > len(state.ready) // 2:
        state.ready = [entry for entry in state.ready if entry[2].state == "ready"]
        heapify(state.ready)
        state.stale_ready = 0


def start(state: WorkerState, task: TaskState) -> None:
    """Hand a task to the executor; its resources must be there."""
    task.state = "executing"
    state.executing.add(task)
    expected = task.expected
    if expected > 0:
        task.ahead = expected
        state.backlog += expected
    if task.resource_restrictions:
        available = state.available_resources
        task.held_resources = task.resource_restrictions
        for name, amount in task.held_resources.items():
            available[name] -= amount
    state.outbox.execute.append(Execute(task))


def stop(state: WorkerState, task: TaskState) -> None:
    """A task no longer takes a slot (it has ended, seceded or been recalled)."""
    executing = state.executing
    executing.discard(task)
    if task.ahead:
        state.backlog -= task.ahead
        task.ahead = 0.0
    if not executing:
        state.backlog = 0.0  # a sum of floats drifts


def give_back_resources(state: WorkerState, task: TaskState) -> None:
    """A task has ended."""
    for name, amount in (task.held_resources or {}).items():
        state.available_resources[name] += amount
    task.held_resources = None


def fits(state: WorkerState, demand: tuple[tuple[str, float], ...]) -> bool:
    """Whether the resources for a demand are free."""
    available = state.available_resources
    return all(available.get(name, 0.0) >= amount for name, amount in demand)


def ensure_computing(state: WorkerState) -> None:
    """Hand out queued tasks, best priority first, as long as there is room."""
    if not state.running:
        return
    if state.constrained:
        start_constrained(state)
    heap = state.ready
    while heap:
        task = heap[0][2]
        if task.state != "ready":
            heappop(heap)
            state.stale_ready -= 1
            continue
        task.expected = expected_seconds(state, task)
        if not room(state, task.expected):
            return
        heappop(heap)
        state.log.append((task.key, "ready", "executing", "executing", state.stimulus, state.now))
        if state.watched:
            state.outbox.transitions.append((task.key, "ready", "executing"))
        start(state, task)


def start_constrained(state: WorkerState) -> None:
    """Hand out tasks whose resources are free, before the others: resources are scarce."""
    for demand, heap in list(state.constrained.items()):
        while heap and room(state, -1.0):
            task = heap[0][2]
            if task.state != "constrained":
                heappop(heap)
                continue
            if not fits(state, demand):
                break
            heappop(heap)
            state.log.append((task.key, "constrained", "executing", "executing", state.stimulus, state.now))
            if state.watched:
                state.outbox.transitions.append((task.key, "constrained", "executing"))
            start(state, task)
        if not heap:
            del state.constrained[demand]
