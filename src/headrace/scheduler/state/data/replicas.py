"""Replicas of results: the record of each replica, and having workers fetch and drop those beyond the first.

A result's record (`TaskState.who_has`) and its workers' (`WorkerState.has_what`) change together, here only. `remove`
never drops the last replica of a result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headrace.common.keys import Key
from headrace.messages.worker import AcquireReplicas, RemoveReplicas
from headrace.scheduler.state.records.tasks import NOTHING

from .actor_results import drop_actor, note_proxy

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState


def add_replica(task: TaskState, worker: WorkerState) -> None:
    """Record that a worker holds a replica of a result (of an actor: what it takes to call it, which is no replica)."""
    if task.options.actor and task.who_has:
        note_proxy(task, worker)
    elif worker not in task.who_has:
        if task.who_has:
            task.who_has = task.who_has | worker.alone
            worker.copies[task] = None
        else:
            task.who_has = worker.alone
        worker.add_replica(task)


def drop_replica(task: TaskState, worker: WorkerState) -> None:
    """Record that a worker no longer holds a replica."""
    if worker in task.who_has:
        task.who_has = NOTHING if task.who_has is worker.alone else task.who_has - worker.alone
        worker.remove_replica(task)
        if worker.actors:
            worker.actors.discard(task)


def drop_all_replicas(state: SchedulerCore, task: TaskState) -> None:
    """Tell every worker that holds a replica to drop it."""
    nbytes = task.get_nbytes()
    for worker in task.who_has:
        del worker.has_what[task]
        if worker.copies:
            worker.copies.pop(task, None)
        worker.nbytes -= nbytes
        state.free(worker, task.key)
    if task.options.actor:
        drop_actor(state, task)
    task.who_has = NOTHING


def acquire(state: SchedulerCore, worker: WorkerState, tasks: Iterable[TaskState]) -> None:
    """Have a worker fetch replicas; it answers with `AddKeys` for those that it has got."""
    held = [task for task in tasks if task.who_has]
    if held:
        state.send(
            worker,
            AcquireReplicas(
                [task.key for task in held],
                [[holder.address for holder in task.who_has] for task in held],
                [task.get_nbytes() for task in held],
            ),
        )


def remove(state: SchedulerCore, worker: WorkerState, tasks: Iterable[TaskState]) -> list[TaskState]:
    """Have a worker drop its replicas of results that others hold as well; returns these results.

    The replicas are off the record at once, so that nobody counts on them; the worker answers with `AddKeys` for those
    that something there needs.
    """
    dropped = []
    for task in tasks:
        if worker in task.who_has and len(task.who_has) > 1:
            drop_replica(task, worker)
            worker.dropping[task.key] = worker.dropping.get(task.key, 0) + 1
            dropped.append(task)
    if dropped:
        keys = [task.key for task in dropped]
        state.send(worker, RemoveReplicas(keys, min([state.scatters.known(key, state.now) for key in keys])))
    return dropped


def note_replicas(state: SchedulerCore, worker: WorkerState, keys: Iterable[Key]) -> None:
    """Record replicas that a worker has fetched and has not been asked to drop since."""
    for key in keys:
        task = state.tasks.get(key)
        if task is not None and task.state == "memory" and key not in worker.dropping:
            add_replica(task, worker)


def replicated(state: SchedulerCore) -> set[TaskState]:
    """Results that more than one worker holds."""
    found = set()
    for worker in state.workers.values():
        if worker.copies:
            single = []
            for task in worker.copies:
                if len(task.who_has) > 1:
                    found.add(task)
                else:
                    single.append(task)
            for task in single:  # the other replicas have gone
                del worker.copies[task]
    return found
