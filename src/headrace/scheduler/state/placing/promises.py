"""Tasks that were sent to a worker before what they need is there, to run as soon as it is: links of a chain.

A short task whose only dependency runs on a worker, and that alone depends on it, runs next on that worker wherever its
placement is thought over; sent along, it does not wait for the news to go to the scheduler and back. Until the
dependency is in memory it is in state `waiting` here, and the promise can be withdrawn: when the dependency leaves the
worker in any other way than by being finished there, or when nobody wants the task any more.

Says nothing of long tasks, which idle workers are to be weighed for when they can run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .assignments import is_promised
from .load import (
    AHEAD_SECONDS,
    AHEAD_TASKS,
    begin_processing,
    end_processing,
)
from .sending import send_task

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState


class Promises:
    """Promised tasks, and the workers that are to run them next.

    Attributes:
        workers: promised tasks, each with the worker that has been sent it.
        followers: by a task that is processing or promised itself, the one that was promised to follow it.
        counts: how many tasks are promised to each worker, if any.
    """

    __slots__ = ("counts", "followers", "workers")

    def __init__(self) -> None:
        self.workers: dict[TaskState, WorkerState] = {}
        self.followers: dict[TaskState, TaskState] = {}
        self.counts: dict[WorkerState, int] = {}

    def add(self, task: TaskState, follower: TaskState, worker: WorkerState) -> None:
        """The worker has been sent `follower`, to run after `task`."""
        self.workers[follower] = worker
        self.followers[task] = follower
        self.counts[worker] = self.counts.get(worker, 0) + 1

    def close(self, follower: TaskState) -> WorkerState:
        """The promise has been kept or withdrawn; returns the worker that it was about."""
        worker = self.workers.pop(follower)
        del self.followers[follower._dependencies[0]]
        left = self.counts[worker] - 1
        if left:
            self.counts[worker] = left
        else:
            del self.counts[worker]
        return worker


def promise_next(state: SchedulerCore, task: TaskState, worker: WorkerState) -> None:
    """Send the worker what is to follow a task that it is about to run, and what is to follow that."""
    promises = state.promises
    room = AHEAD_TASKS * worker.nthreads - promises.counts.get(worker, 0)
    while room > 0:
        follower = _follower_of(state, task)
        if follower is None or task in promises.followers:
            return
        promises.add(task, follower, worker)
        send_task(state, follower, worker)
        room -= 1
        task = follower


def _follower_of(state: SchedulerCore, task: TaskState) -> TaskState | None:
    """The only task that depends on this one, if it needs nothing else and is known to be short."""
    dependents = task._dependents
    if dependents is None or len(dependents) != 1:
        return None
    (follower,) = dependents
    if follower.state != "waiting" or len(follower._dependencies) != 1:
        return None
    if not 0 <= follower.group.prefix.duration_average <= AHEAD_SECONDS:
        return None
    options = follower.options
    if options.workers or options.resources or options.actor:
        return None
    if follower.retry_at > state.now:
        return None
    if task.suspicious or follower.suspicious:
        return None  # sent together, it could not be told which of them kills the worker
    return follower


def join_chain(state: SchedulerCore, task: TaskState) -> None:
    """A task has begun to wait: if its only dependency is on its way through a worker, it is to follow there."""
    (dependency,) = task._dependencies
    worker = dependency.processing_on or state.promises.workers.get(dependency)
    if worker is not None and worker in state.running:
        promise_next(state, dependency, worker)


def keep(state: SchedulerCore, task: TaskState) -> bool:
    """Run a promised task, whose only dependency has come, where it was promised to, if the dependency is there.

    One outcome of the row waiting → processing; the worker has been told already, so nothing is sent.
    """
    worker = state.promises.workers.get(task)
    if worker is None:
        return False
    if worker not in state.running or worker not in task._dependencies[0].who_has:
        withdraw(state, task)
        return False
    state.promises.close(task)
    state.move(task, "processing")
    begin_processing(state, worker, task, max(0.0, task.group.prefix.duration_average))
    if task._dependents is not None:
        promise_next(state, task, worker)
    return True


def note_result(state: SchedulerCore, task: TaskState) -> None:
    """The result of a promised task has come before the promise was due: from its worker, or from elsewhere."""
    worker = state.promises.workers.get(task)
    if worker is None:
        return
    if worker in task.who_has:
        state.promises.close(task)
    else:
        withdraw(state, task)


def on_given_back(state: SchedulerCore, worker: WorkerState, task: TaskState | None, attempt: int) -> None:
    """Withdraw a promise that its worker will not keep: the task is placed when it can run.

    The worker was still at an earlier run of the task, which was asked back or failed.
    """
    if is_promised(task, worker, attempt, state):
        withdraw(state, task)


def withdraw(state: SchedulerCore, task: TaskState) -> None:
    """A task is not to run where it was promised to, nor is what was to follow it."""
    promises = state.promises
    following: TaskState | None = task if task in promises.workers else None
    while following is not None:
        worker = promises.close(following)
        if worker.address in state.workers:
            state.free(worker, following.key)
        following = promises.followers.get(following)


def end_unfinished(state: SchedulerCore, worker: WorkerState, task: TaskState) -> None:
    """Account for a task that its worker is not to run any more, or whose result came from elsewhere."""
    end_processing(state, worker, task)
    follower = state.promises.followers.get(task) if state.promises.followers else None
    if follower is not None:
        withdraw(state, follower)
