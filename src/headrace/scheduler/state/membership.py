"""Workers that come, change their status, and go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headrace.common.keys import Key
from headrace.common.status import Status

from . import steals
from .actors import lose_actor
from .heartbeats import forget_bandwidths
from .load import check_load
from .promises import end_unfinished
from .replicas import add_replica, drop_replica, set_nbytes
from .restrictions import forget_allowed, has_resources

if TYPE_CHECKING:
    from .state import SchedulerState
    from .tasks import TaskState
    from .transitions.engine import Recommendations
    from .workers import WorkerState


def add_worker(
    state: SchedulerState, worker: WorkerState, held: dict[Key, int], scattered: frozenset[Key] = frozenset()
) -> Recommendations:
    """Record a worker with the results that it holds, in place of the record that its address had before, if any.

    The results are on record before anything moves: whatever is freed afterwards, the worker is told.
    """
    forget_allowed(state)
    found = _take_held(state, worker, held, scattered)
    recommendations: Recommendations = {}
    old = state.workers.get(worker.address)
    if old is not None:
        same = bool(worker.server_id) and old.server_id == worker.server_id
        reason = "it has registered again" if same else "another worker has registered at its address"
        recommendations, _ = remove_worker(state, old, reason, expected=same)
    recommendations.update(found)
    state.workers[worker.address] = worker
    worker.first_attempt = state.attempts
    worker.heard_at, worker.last_seen = state.now, state.shown
    state.aliases[worker.name] = worker.address
    state.total_nthreads += worker.nthreads
    state.total_nthreads_history.append((state.shown, state.total_nthreads))
    host = state.host_info.setdefault(worker.host, {"nthreads": 0, "addresses": set()})
    host["nthreads"] += worker.nthreads
    host["addresses"].add(worker.address)
    for name, amount in worker.resources.items():
        state.resources.setdefault(name, {})[worker.address] = amount
    if worker.status is Status.running:
        state.running[worker] = None
    check_load(state, worker)
    return recommendations


def _take_held(
    state: SchedulerState, worker: WorkerState, held: dict[Key, int], scattered: frozenset[Key]
) -> Recommendations:
    """Record the results that a worker came with; those that nobody needs are freed.

    Not those that were scattered of late, of which a client may be about to tell: the worker asks after these later.
    """
    recommendations: Recommendations = {}
    for key, nbytes in held.items():
        task = state.tasks.get(key)
        if task is None or task.state in ("erred", "released") or not _keep_actor(state, task, worker):
            if key not in scattered:
                state.free(worker, key)
            continue
        if task.state != "memory":
            set_nbytes(task, nbytes)
            recommendations[task] = "memory"
        add_replica(task, worker)
    return recommendations


def _keep_actor(state: SchedulerState, task: TaskState, worker: WorkerState) -> bool:
    """Whether what a worker came with is of use if it is an actor: it stays where it was if that process is back."""
    if not task.options.actor:
        return True
    if task.state != "memory":
        return False
    old = state.workers.get(worker.address)
    if old is not None and old in task.who_has and worker.server_id and old.server_id == worker.server_id:
        drop_replica(task, old)
        add_replica(task, worker)
        worker.actors.add(task)
    return True


def suspects(worker: WorkerState) -> list[TaskState]:
    """The tasks that a worker was probably running when it went.

    These are those that its last heartbeat named, and as many more as it has threads for: what had its data there
    first, then by priority. A task that kills as soon as it starts is in no heartbeat. One that has seceded is
    suspected only when there is no other.
    """
    long_running, executing = worker.long_running, worker.executing
    running = [task for task in executing if task in worker.processing and task not in long_running]
    room = worker.nthreads - len(running)
    if room > 0:
        rest = [task for task in worker.processing if task not in executing and task not in long_running]
        rest.sort(key=lambda task: (any(worker not in needed.who_has for needed in task._dependencies), task.priority))
        running += rest[:room]
    return running or list(long_running)


def pardon(tasks: Iterable[TaskState]) -> None:
    """A worker that was taken for dead, with these tasks, has come back: it was the connection that broke."""
    for task in tasks:
        if task.state != "erred" and task.rare.suspicious > 0:
            task.rare.suspicious -= 1
            task.prefix.suspicious -= 1


def remove_worker(
    state: SchedulerState, worker: WorkerState, reason: str, *, expected: bool
) -> tuple[Recommendations, list[Key]]:
    """Forget a worker: place its tasks anew, recompute what only it held.

    A task under which more workers died than `allowed_failures` errs; `expected` departures do not count.
    """
    forget_allowed(state)
    del state.workers[worker.address]
    forget_bandwidths(state, worker)
    if state.aliases.get(worker.name) == worker.address:
        del state.aliases[worker.name]
    state.total_nthreads -= worker.nthreads
    state.total_nthreads_history.append((state.shown, state.total_nthreads))
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
    state.steals.forget_worker(worker)
    recommendations: Recommendations = {}
    suspected = [] if expected else suspects(worker)
    for task in list(worker.processing):
        end_unfinished(state, worker, task)
        recommendations[task] = "released"
    for task in suspected:
        rare = task.rare
        rare.suspicious += 1
        task.prefix.suspicious += 1
        if rare.suspicious > state.options.allowed_failures:
            if state.options.killed_payload is not None:
                rare.exception = state.options.killed_payload(task.key, worker, state.options.allowed_failures, reason)
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
    """A worker runs again, pauses (it finishes what runs and gets nothing new) or is about to close.

    One that pauses finishes what runs and gives back what others may run; one that closes gracefully gives back all
    that it has not started. What they compute meanwhile counts.
    """
    worker.status = Status[status]
    if worker.status is Status.running:
        state.running[worker] = None
        check_load(state, worker)
        return {}
    state.running.pop(worker, None)
    check_load(state, worker)
    if worker.status is Status.paused:
        steals.recall_movable(state, worker)
        return {}
    if worker.status is Status.closing_gracefully:
        steals.recall_all(state, worker)
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
