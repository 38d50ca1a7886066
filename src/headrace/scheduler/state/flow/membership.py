"""Workers that come, change their status, and go."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from headrace.common.keys import Key
from headrace.common.status import Status
from headrace.scheduler.state.balance import steal_requests
from headrace.scheduler.state.data.actor_results import lose_actor
from headrace.scheduler.state.data.replicas import add_replica, drop_replica
from headrace.scheduler.state.placing.load import check_load
from headrace.scheduler.state.placing.promises import end_unfinished
from headrace.scheduler.state.placing.restrictions import forget_allowed, has_resources

from .heartbeat_reports import forget_bandwidths

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState
    from headrace.scheduler.state.transitions.engine import Recommendations

#: Of workers that leave in good order, so many times as many may leave under a task as may die under it.
DEPARTURES_PER_DEATH = 5


def add_worker(
    state: SchedulerCore, worker: WorkerState, held: dict[Key, int], scattered: frozenset[Key] = frozenset()
) -> Recommendations:
    """Record a worker with the results that it holds, in place of the record that its address had before, if any.

    The results are on record before anything moves: whatever is freed afterwards, the worker is told.
    """
    forget_allowed(state)
    found = _take_held(state, worker, held, scattered)
    recommendations: Recommendations = {}
    old = state.workers.get(worker.address)
    same = False
    if old is not None:
        same = bool(worker.server_id) and old.server_id == worker.server_id
        reason = "it has registered again" if same else "another worker has registered at its address"
        recommendations, _ = remove_worker(state, old, reason, expected=same, returns=same)
    recommendations.update(found)
    state.workers[worker.address] = worker
    worker.first_attempt = state.attempts
    worker.heard_at, worker.last_seen = state.now, state.shown
    state.aliases[worker.name] = worker.address
    state.tallies.workers_added += not same
    state.tallies.threads_change(state.total_nthreads, state.now)
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
    state: SchedulerCore, worker: WorkerState, held: dict[Key, int], scattered: frozenset[Key]
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
            task.set_nbytes(nbytes)
            recommendations[task] = "memory"
        add_replica(task, worker)
    return recommendations


def _keep_actor(state: SchedulerCore, task: TaskState, worker: WorkerState) -> bool:
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


def allowed_departures(state: SchedulerCore, *, asked: bool) -> int:
    """Number of workers that may leave in good order under a task before it errs.

    Retirement and preemption strike whom they find, and say little against a task; but no task may end one worker
    after the other for good. So the bound is some times that of deaths. If the scheduler has not sent them away, a task
    may have brought it about, and must not end most of the cluster: of these as many may leave as others are there
    then, or as many as may die if that is more.

    Args:
        asked: whether the scheduler sent the last one away.
    """
    others = sum([worker.status is not Status.closing for worker in state.workers.values()])
    deaths = state.options.allowed_failures
    most = DEPARTURES_PER_DEATH * (deaths + 1)
    return most if asked else min(most, max(deaths, others, 1))


def remove_worker(
    state: SchedulerCore,
    worker: WorkerState,
    reason: str,
    *,
    expected: bool,
    returns: bool = False,
    blamed: Iterable[Key] = (),
) -> tuple[Recommendations, list[Key]]:
    """Forget a worker: place its tasks anew, recompute what only it held.

    A task under which too many workers died, or left, errs.

    Args:
        expected: whether it left in good order; else it died.
        returns: whether it is not gone, but has another record by now: that says nothing of its tasks.
        blamed: keys of the tasks that are known to be to blame for a death; else `suspects` tells.
    """
    forget_allowed(state)
    del state.workers[worker.address]
    forget_bandwidths(state, worker)
    if state.aliases.get(worker.name) == worker.address:
        del state.aliases[worker.name]
    state.tallies.workers_removed += not returns
    state.tallies.workers_lost += not (returns or expected)
    state.tallies.threads_change(state.total_nthreads, state.now)
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
    worker.outbox.clear()
    state.functions.forget_worker(worker)
    state.steals.forget_worker(worker)
    recommendations: Recommendations = {}
    named = list(blamed)
    suspected = [] if returns else _blamed(state, worker, named) if named else suspects(worker)
    asked = worker.status is not Status.closing
    worker.status = Status.closed
    for task in list(worker.processing):
        end_unfinished(state, worker, task)
        recommendations[task] = "released"
    count = partial(_count_departure, asked=asked) if expected else _count_death
    guilty = [task for task in suspected if count(state, task, worker, reason)]
    recommendations.update(dict.fromkeys(guilty, "erred"))
    lost: list[Key] = []
    for task in list(worker.has_what):
        drop_replica(task, worker)
        if task in guilty:
            task.rare.exception_blame = task
            continue
        if not task.who_has and task.state == "memory":
            if task.options.actor:
                lose_actor(state, task, worker, reason)
                recommendations[task] = "erred"
                continue
            recommendations[task] = "released"
            if task.function is None:
                lost.append(task.key)
    return recommendations, lost


def _blamed(state: SchedulerCore, worker: WorkerState, keys: Iterable[Key]) -> list[TaskState]:
    """Of these tasks, those that are placed anew because a worker has gone: they ran there, or their result is lost."""
    tasks = [task for key in keys if (task := state.tasks.get(key)) is not None]
    return [
        task
        for task in tasks
        if task in worker.processing
        or (task.state == "memory" and task.function is not None and task.who_has == {worker})
    ]


def _count_death(state: SchedulerCore, task: TaskState, worker: WorkerState, reason: str) -> bool:
    """A worker died under a task; whether that makes too many, so that it is to err."""
    rare, allowed = task.rare, state.options.allowed_failures
    rare.suspicious += 1
    task.prefix.suspicious += 1
    if rare.suspicious <= allowed:
        return False
    if state.options.killed_payload is not None:
        rare.exception = state.options.killed_payload(task.key, worker, allowed, reason)
    rare.exception_text = killed_text(task.key, worker.address, rare.suspicious, reason)
    return True


def _count_departure(state: SchedulerCore, task: TaskState, worker: WorkerState, reason: str, *, asked: bool) -> bool:
    """A worker left in good order while it ran a task; whether that makes too many, so that the task is to err."""
    rare = task.rare
    rare.departures += 1
    if rare.departures <= allowed_departures(state, asked=asked):
        return False
    if state.options.left_payload is not None:
        rare.exception = state.options.left_payload(task.key, worker, rare.departures - 1, reason)
    rare.exception_text = left_text(task.key, worker.address, rare.departures, reason)
    return True


def killed_text(key: Key, address: str, deaths: int, reason: str) -> str:
    """Text for the user when a task seems to kill its workers."""
    return (
        f"task {key!r} was running on {deaths} workers that died; the last was {address} ({reason}). "
        "Look at that worker's log; the task may need more memory than a worker has."
    )


def left_text(key: Key, address: str, departures: int, reason: str) -> str:
    """Text for the user when one worker after the other leaves under a task."""
    return (
        f"task {key!r} was running on {departures} workers that left; the last was {address} ({reason}). "
        "If it does not end them itself, and workers come and go often, raise distributed.scheduler.allowed-failures."
    )


def set_status(state: SchedulerCore, worker: WorkerState, status: str, reason: str = "") -> Recommendations:
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
        steal_requests.recall_movable(state, worker)
        return {}
    if worker.status is Status.closing_gracefully:
        steal_requests.recall_all(state, worker)
        return {}
    # It closes. What has seceded may still end there; if not, it counts when the worker has gone.
    running = [task for task in suspects(worker) if task not in worker.long_running]
    left = {task: "released" for task in worker.processing if task not in worker.long_running}
    reason = f"it closed: {reason or 'the scheduler had not asked for that'}"
    guilty = [task for task in running if _count_departure(state, task, worker, reason, asked=False)]
    return {**left, **dict.fromkeys(guilty, "erred")}


def set_resources(state: SchedulerCore, worker: WorkerState, resources: dict[str, float]) -> Recommendations:
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
