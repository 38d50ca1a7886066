"""Workers that come, change their status, and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.keys import Key
from headrace.common.status import Status
from headrace.messages.worker import FreeKeys

from .actors import lose_actor
from .load import check_load, end_processing
from .replicas import add_replica, drop_replica
from .restrictions import forget_allowed, has_resources

if TYPE_CHECKING:
    from .state import SchedulerState
    from .transitions.engine import Recommendations
    from .workers import WorkerState


def add_worker(state: SchedulerState, worker: WorkerState, held: dict[Key, int]) -> Recommendations:
    """Record a worker and the results it already holds; those that no task is known for are freed."""
    forget_allowed(state)
    state.workers[worker.address] = worker
    state.aliases[worker.name] = worker.address
    state.total_nthreads += worker.nthreads
    host = state.host_info.setdefault(worker.host, {"nthreads": 0, "addresses": set()})
    host["nthreads"] += worker.nthreads
    host["addresses"].add(worker.address)
    for name, amount in worker.resources.items():
        state.resources.setdefault(name, {})[worker.address] = amount
    if worker.status is Status.running:
        state.running[worker] = None
    check_load(state, worker)
    recommendations: Recommendations = {}
    unknown: list[Key] = []
    for key in held:
        task = state.tasks.get(key)
        if task is None or task.state in ("erred", "released"):
            unknown.append(key)
            continue
        add_replica(task, worker)
        if task.state != "memory":
            recommendations[task] = "memory"
    if unknown:
        state.send(worker, FreeKeys(unknown))
    return recommendations


def remove_worker(
    state: SchedulerState, worker: WorkerState, reason: str, *, expected: bool
) -> tuple[Recommendations, list[Key]]:
    """Forget a worker: place its tasks anew, recompute what only it held.

    A task under which more workers died than `allowed_failures` errs; `expected` departures do not count.
    """
    forget_allowed(state)
    del state.workers[worker.address]
    if state.aliases.get(worker.name) == worker.address:
        del state.aliases[worker.name]
    state.total_nthreads -= worker.nthreads
    host = state.host_info[worker.host]
    host["nthreads"] -= worker.nthreads
    host["addresses"].discard(worker.address)
    if not host["addresses"]:
        del state.host_info[worker.host]
    for name in worker.resources:
        state.resources[name].pop(worker.address, None)
    for group in (state.running, state.idle, state.saturated, state.open_workers):
        group.pop(worker, None)
    worker.status = Status.closed
    worker.outbox.clear()
    state.functions.forget_worker(worker)
    recommendations: Recommendations = {}
    for task in list(worker.processing):
        long_running = task in worker.long_running
        end_processing(state, worker, task)
        recommendations[task] = "released"
        if not expected and not long_running:
            rare = task.rare
            rare.suspicious += 1
            task.prefix.suspicious += 1
            if rare.suspicious > state.options.allowed_failures:
                if state.options.killed_payload is not None:
                    rare.exception = state.options.killed_payload(task.key, worker, state.options.allowed_failures)
                rare.exception_text = killed_text(task.key, worker.address, rare.suspicious, reason)
                recommendations[task] = "erred"
    lost: list[Key] = []
    for task in list(worker.has_what):
        drop_replica(task, worker)
        if not task.who_has and task.state == "memory":
            if task.options.actor:
                lose_actor(state, task, worker, reason)
                recommendations[task] = "erred"
                continue
            recommendations[task] = "released"
            if task.function is None:
                lost.append(task.key)
    return recommendations, lost


def killed_text(key: Key, address: str, deaths: int, reason: str) -> str:
    """What a user reads when a task seems to kill its workers."""
    return (
        f"task {key!r} was running on {deaths} workers that died; the last was {address} ({reason}). "
        "Look at that worker's log; the task may need more memory than a worker has."
    )


def set_status(state: SchedulerState, worker: WorkerState, status: str) -> Recommendations:
    """A worker runs again, pauses (it finishes what runs and gets nothing new) or is about to close."""
    worker.status = Status[status]
    if worker.status is Status.running:
        state.running[worker] = None
        check_load(state, worker)
        return {}
    state.running.pop(worker, None)
    check_load(state, worker)
    if worker.status is Status.paused:
        return {}
    return {task: "released" for task in worker.processing if task not in worker.long_running}


def set_resources(state: SchedulerState, worker: WorkerState, resources: dict[str, float]) -> Recommendations:
    """Change some of a worker's abstract resources; tasks there that take more than it has now are placed anew."""
    forget_allowed(state)
    for name, amount in resources.items():
        worker.resources[name] = amount
        state.resources.setdefault(name, {})[worker.address] = amount
    return {
        task: "released"
        for task in worker.processing
        if task.options.resources and not has_resources(worker, task.options.resources.items())
    }
