"""Invariants that hold after every event; to check them is to walk over everything: for tests and `validate=True`."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from headrace.common.status import Status
from headrace.scheduler.state.placing.load import SATURATED_SECONDS, has_room, is_full
from headrace.scheduler.state.transitions.table import TABLE

from .record_invariants import InvariantError as InvariantError
from .record_invariants import problem_of_record
from .record_invariants import validate_state as validate_state
from .record_invariants import validate_task_state as validate_task_state
from .record_invariants import validate_unrunnable as validate_unrunnable
from .record_invariants import validate_worker_state as validate_worker_state

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.groups import TaskGroup
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState


def check(state: SchedulerCore) -> None:
    """Raise `InvariantError` if the records contradict each other."""
    for task in state.tasks.values():
        problem = _of_task(state, task)
        if problem:
            story = "\n  ".join(map(str, state.story(task.key)))
            raise InvariantError(f"{task!r}: {problem}; its story:\n  {story}")
    problem = _of_totals(state)
    if problem:
        raise InvariantError(problem)


def problem_of(state: SchedulerCore, task: TaskState) -> str | None:
    """Find what contradicts itself about a task, or `None`."""
    return _of_task(state, task)


def _of_task(state: SchedulerCore, task: TaskState) -> str | None:
    return problem_of_record(task) or _of_place(state, task)


def _of_place(state: SchedulerCore, task: TaskState) -> str | None:
    checks: dict[str, bool] = {
        "dependencies are known": all(
            state.tasks.get(d.key) is d or task.state in ("memory", "erred", "released") for d in task._dependencies
        ),
        "unrunnable means no-worker": (task in state.unrunnable) == (task.state == "no-worker"),
        "only the waiting are delayed": task not in state.delays or task.state == "waiting",
    }
    if task.state == "waiting":
        checks["waits for something"] = bool(task._waiting_on) or task in state.delays
    worker = state.promises.workers.get(task)
    if worker is not None:
        (dependency,) = task._dependencies
        checks["only the waiting are promised"] = task.state == "waiting"
        checks["it is to follow what it needs"] = state.promises.followers.get(dependency) is task
        checks["what it needs comes from the same worker"] = (
            dependency.processing_on or state.promises.workers.get(dependency)
        ) is worker
    if task.processing_on is not None:
        checks["its worker is there"] = state.workers.get(task.processing_on.address) is task.processing_on
    return next((name for name, holds in checks.items() if not holds), None)


def _of_totals(state: SchedulerCore) -> str | None:
    for worker in state.workers.values():
        problem = _of_worker(state, worker)
        if problem:
            return f"{worker!r}: {problem}"
    workers = list(state.workers.values())
    if state.busy != {worker for worker in workers if worker.processing}:
        return "the busy workers are not those that process something"
    if set(state.running) != {worker for worker in workers if worker.status is Status.running}:
        return "the running workers are not those whose status is running"
    occupancy = sum(worker.occupancy for worker in workers)
    if abs(state.total_occupancy - occupancy) > 1e-6 or (not state.busy and state.total_occupancy):
        return f"total_occupancy is {state.total_occupancy}, and that of all workers {occupancy}"
    if state.total_nthreads != sum(worker.nthreads for worker in workers):
        return "total_nthreads is not the sum over workers"
    if state.total_nthreads != sum(host["nthreads"] for host in state.host_info.values()):
        return "total_nthreads is not the sum over hosts"
    if state.aliases != {worker.name: worker.address for worker in workers}:
        return "the aliases are not the names of the workers"
    promises = state.promises
    if Counter(promises.workers.values()) != promises.counts or len(promises.followers) != len(promises.workers):
        return "what is promised is not what is counted"
    if len(state.queued) != sum(task.state == "queued" for task in state.tasks.values()):
        return "the queue's length is wrong"
    if state.queued and any(worker in state.running for worker in state.open_workers):
        return f"{len(state.queued)} tasks are queued though {list(state.open_workers)} have room"
    if state.chosen or state.finished:
        return f"tasks were to move and did not: {[*state.chosen, *state.finished]}"
    return _of_moves(state) or _of_functions(state) or _of_groups(state) or _of_bandwidths(state)


def _of_worker(state: SchedulerCore, worker: WorkerState) -> str | None:
    """Find what contradicts itself about a worker: its sums, and the sets that it is in."""
    threads, running = worker.nthreads, worker.status is Status.running
    count = len(worker.processing) - len(worker.long_running)
    checks: dict[str, bool] = {
        "what it processes is on record as processing there": all(
            task.processing_on is worker for task in worker.processing
        ),
        "occupancy is the sum of what it processes": abs(worker.occupancy - sum(worker.processing.values())) <= 1e-6,
        "nbytes is the sum of what it holds": worker.nbytes == sum(task.get_nbytes() for task in worker.has_what),
        "what has seceded is processing there": worker.long_running <= worker.processing.keys(),
        "what runs is processing there": worker.executing.keys() <= worker.processing.keys(),
        "it holds its actors": worker.actors <= worker.has_what.keys(),
        "claimed_resources is the sum of what its tasks ask for": all(
            abs(claimed - sum(task.options.resources.get(name, 0.0) for task in worker.processing)) <= 1e-6
            for name, claimed in worker.claimed_resources.items()
        ),
        "its resources are known": all(
            state.resources[name].get(worker.address) == amount for name, amount in worker.resources.items()
        ),
        "idle means running with fewer tasks than threads": (worker in state.idle) == (running and count < threads),
        "saturated means running with much work waiting": (worker in state.saturated)
        == (running and count > threads and worker.occupancy > SATURATED_SECONDS * threads),
        "open workers are running": running or worker not in state.open_workers,
        "workers with room for a run of tasks are open": not (running and has_room(worker))
        or worker in state.open_workers,
        "full workers are not open": not is_full(worker) or worker not in state.open_workers,
    }
    return next((f"not so: {name}" for name, holds in checks.items() if not holds), None)


def _of_moves(state: SchedulerCore) -> str | None:
    """Find a move since the last check, by whatever way it was made, that is no row of the table."""
    number = state.transition_counter - state.checked_transitions
    state.checked_transitions = state.transition_counter
    for key, start, finish, _, _ in islice(reversed(state.transition_log), number):
        if (start, finish) not in TABLE:
            return f"{key!r} has moved from {start} to {finish}, which is no row of the table"
    return None


def _of_functions(state: SchedulerCore) -> str | None:
    users = Counter(task.function for task in state.tasks.values() if task.function is not None)
    wrong = [function for function, count in users.items() if function.users != count]
    return f"functions have other users than are counted: {wrong}" if wrong else None


def _of_groups(state: SchedulerCore) -> str | None:
    """Compare the counts that groups and prefixes keep with the tasks."""
    tasks: dict[TaskGroup, list[TaskState]] = {group: [] for group in state.tasks.groups.values()}
    for task in state.tasks.values():
        tasks[task.group].append(task)
    for group, members in tasks.items():
        if group.count != len(members):
            return f"{group!r}: counts {group.count} tasks, and has {len(members)}"
        states = Counter(task.state for task in members)
        counted = {name: count for name, count in group.states.items() if count and name != "forgotten"}
        if counted != states:
            return f"{group!r}: counts {counted}, and its tasks are {dict(states)}"
        produced = sum(task.nbytes for task in members if task.nbytes > 0)
        if group.nbytes_total < produced or (group.nbytes_total != produced and not group.states["forgotten"]):
            return f"{group!r}: nbytes_total is {group.nbytes_total}, and its tasks have produced {produced}"
        untold = {task.type for task in members if task.who_has and task.attempt and task.type} - group.types
        if untold:
            return f"{group!r}: does not know of the types {untold}"
    for prefix in state.tasks.prefixes.values():
        totals, ever = prefix.states, prefix.state_counts
        if any(ever[name] < count for name, count in totals.items()):
            return f"{prefix!r}: has tasks in {totals}, and counted {ever}"
        if ever["released"] < sum(group.count for group in prefix.groups):
            return f"{prefix!r}: has more tasks than ever began"
    return None


def _of_bandwidths(state: SchedulerCore) -> str | None:
    speeds = [state.bandwidth, *state.bandwidth_workers.values(), *state.bandwidth_types.values()]
    if not all(0 < speed < float("inf") for speed in speeds):
        return f"a bandwidth is none: {state.bandwidth}, {state.bandwidth_workers}, {state.bandwidth_types}"
    gone = {address for pair in state.bandwidth_workers for address in pair} - set(state.workers)
    return f"bandwidths are known of {gone}, which are not connected" if gone else None
