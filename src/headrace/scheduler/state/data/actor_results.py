"""Actors: results that live on the worker that made them, are never copied, and cannot be computed again.

Other workers get proxies, which are small; who has one is remembered so that it can be told to drop it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState


def note_proxy(task: TaskState, worker: WorkerState) -> None:
    """A worker can call the actor."""
    if worker not in task.who_has:
        task.rare.proxies.add(worker)


def drop_actor(state: SchedulerCore, task: TaskState) -> None:
    """Nobody wants the actor any more, or it is lost: its worker and those with proxies drop it."""
    for worker in task.who_has:
        worker.actors.discard(task)
    for worker in task.rare.proxies:
        if state.workers.get(worker.address) is worker:
            state.free(worker, task.key)
    task.rare.proxies.clear()


def lose_actor(state: SchedulerCore, task: TaskState, worker: WorkerState, reason: str) -> None:
    """Put on record that the actor's worker is gone."""
    rare = task.rare
    rare.exception_blame = task
    rare.exception_text = (
        f"Worker holding Actor was lost: the actor {task.key!r} lived on the worker at {worker.address}, which is gone "
        f"({reason}); its state cannot be computed again"
    )
    if state.options.actor_payload is not None:
        rare.exception = state.options.actor_payload(rare.exception_text)
