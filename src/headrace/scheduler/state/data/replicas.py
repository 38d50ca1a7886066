"""Where results are: copies that appear and go, and data that clients put there themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.keys import Key
from headrace.messages.client import CancelledKeys, KeyInMemory
from headrace.scheduler.state.flow import interest
from headrace.scheduler.state.records.tasks import LOST, NOTHING

from .actor_results import drop_actor, note_proxy
from .scatters import note_scattered

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.clients import ClientState
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState
    from headrace.scheduler.state.transitions.engine import Recommendations


def add_replica(task: TaskState, worker: WorkerState) -> None:
    """The worker holds a copy of the result (of an actor: what it takes to call it, which is no copy)."""
    if task.options.actor and task.who_has:
        note_proxy(task, worker)
    elif worker not in task.who_has:
        if task.who_has:
            task.who_has = task.who_has | worker.alone
            worker.copies[task] = None
        else:
            task.who_has = worker.alone
        worker.has_what[task] = None
        worker.nbytes += task.get_nbytes()


def drop_replica(task: TaskState, worker: WorkerState) -> None:
    """The worker no longer holds a copy."""
    if worker in task.who_has:
        task.who_has = NOTHING if task.who_has is worker.alone else task.who_has - worker.alone
        del worker.has_what[task]
        worker.copies.pop(task, None)
        worker.nbytes -= task.get_nbytes()
        if worker.actors:
            worker.actors.discard(task)


def drop_all_replicas(state: SchedulerCore, task: TaskState) -> None:
    """Tell every worker that holds a copy to drop it."""
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


def set_nbytes(task: TaskState, nbytes: int) -> None:
    """Record the size of a result, in bytes, with all who hold it."""
    task.set_nbytes(nbytes)


def add_data(
    state: SchedulerCore,
    client: ClientState | None,
    who_has: dict[Key, list[str]],
    nbytes: dict[Key, int],
    types: dict[Key, str],
    scattering: int = 0,
) -> Recommendations:
    """Record data that is on workers without a task having computed it."""
    recommendations: Recommendations = {}
    for key, addresses in who_has.items():
        holders = [worker for address in addresses if (worker := state.workers.get(address)) is not None]
        task = state.tasks.get(key)
        if not holders and (task is None or (task.function is None and not task.who_has)):
            if client is not None and not client.silent:
                state.send(client, CancelledKeys([key], LOST))
            continue
        if task is None:
            task = state.tasks.new(key)
        task.type = types.get(key, task.type)
        for worker in holders:
            add_replica(task, worker)
        if scattering:
            note_scattered(task, holders, scattering)
        set_nbytes(task, nbytes.get(key, task.nbytes))
        if client is not None:
            interest.add_interest(client, task)
        if not task.who_has:
            continue
        if task.state == "memory":
            if client is not None:
                state.send(client, KeyInMemory(task.key, task.type))
        else:
            recommendations[task] = "memory"
    return recommendations
