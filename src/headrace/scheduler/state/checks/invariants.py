"""What must hold after every event. Costs a walk over everything: for tests and `validate=True` only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.clients import ClientState
    from headrace.scheduler.state.records.groups import TaskGroup
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState


class InvariantError(AssertionError):
    """The records contradict each other; the message names what, with the task's story."""


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


def validate_task_state(ts: TaskState) -> None:
    """Raise `InvariantError` if the record of a task contradicts itself or its neighbours."""
    problem = _of_record(ts)
    if problem:
        raise InvariantError(f"{ts!r}: {problem}")


def validate_worker_state(ws: WorkerState) -> None:
    """Raise `InvariantError` if the record of a worker contradicts those of its tasks."""
    for task in ws.has_what:
        if ws not in task.who_has:
            raise InvariantError(f"{ws!r} holds {task!r}, which does not know of it")
    for task in ws.processing:
        if task.processing_on is not ws:
            raise InvariantError(f"{ws!r} processes {task!r}, which is elsewhere")
    if ws.nbytes != sum(task.get_nbytes() for task in ws.has_what):
        raise InvariantError(f"{ws!r}: nbytes is not the sum of what it holds")


def validate_unrunnable(unrunnable: Mapping[TaskState, float]) -> None:
    """Raise `InvariantError` if what waits for a worker is in another state, or out of order."""
    latest = float("-inf")
    for task, since in unrunnable.items():
        if task.state != "no-worker":
            raise InvariantError(f"{task!r} is among those that no worker may run")
        if since < latest:
            raise InvariantError(f"{task!r} has waited longer than the one before it")
        latest = since


def validate_state(
    tasks: Mapping[Any, TaskState], workers: Mapping[str, WorkerState], clients: Mapping[str, ClientState]
) -> None:
    """Raise `InvariantError` if records contradict each other."""
    for task in tasks.values():
        validate_task_state(task)
    for address, worker in workers.items():
        if worker.address != address:
            raise InvariantError(f"{worker!r} is recorded at {address}")
        validate_worker_state(worker)
    for client in clients.values():
        for task in client.wants_what:
            if client not in task.who_wants:
                raise InvariantError(f"{client!r} wants {task!r}, which does not know of it")


def problem_of(state: SchedulerCore, task: TaskState) -> str | None:
    """What contradicts itself about a task, or `None`."""
    return _of_task(state, task)


def _of_task(state: SchedulerCore, task: TaskState) -> str | None:
    return _of_record(task) or _of_place(state, task)


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


def _of_record(task: TaskState) -> str | None:
    checks: dict[str, bool] = {
        "dependents mirror dependencies": all(task in (d._dependents or ()) for d in task._dependencies),
        "who_has mirrors has_what": all(task in worker.has_what for worker in task.who_has),
        "who_wants mirrors wants_what": all(task in client.wants_what for client in task.who_wants),
        "in memory means held": bool(task.who_has) == (task.state == "memory"),
        "processing means placed": (task.processing_on is not None) == (task.state == "processing"),
        "only the waiting wait": not task._waiting_on or task.state == "waiting",
        "waiters need it": all(task in waiter._dependencies for waiter in task._waiters or ()),
        "erred has a cause": task.state != "erred" or task.exception_blame is not None,
    }
    if task.state == "waiting":
        checks["waits for what is missing"] = (task._waiting_on or set()) == {
            d for d in task._dependencies if not d.who_has
        }
        checks["what it waits for will come"] = all(
            d.state in ("waiting", "queued", "no-worker", "processing") for d in task._waiting_on or ()
        )
    if task.state in ("processing", "queued", "no-worker"):
        checks["has all it needs"] = all(d.who_has for d in task._dependencies)
    if task.state in ("waiting", "processing", "queued", "no-worker"):
        checks["dependencies know the waiter"] = all(task in (d._waiters or ()) for d in task._dependencies)
        checks["somebody wants it"] = bool(task.who_wants or task._waiters)
    if task.processing_on is not None:
        checks["its worker knows"] = task in task.processing_on.processing
    if task.state == "released":
        checks["is known to somebody"] = bool(task._dependents) and not task.who_wants
    return next((name for name, holds in checks.items() if not holds), None)


def _of_totals(state: SchedulerCore) -> str | None:
    for worker in state.workers.values():
        if any(task.processing_on is not worker for task in worker.processing):
            return f"{worker!r} processes tasks that are elsewhere"
        if abs(worker.occupancy - sum(worker.processing.values())) > 1e-6:
            return f"{worker!r}: occupancy {worker.occupancy} is not the sum of what it processes"
        for name, claimed in worker.claimed_resources.items():
            asked = sum(task.options.resources.get(name, 0.0) for task in worker.processing)
            if abs(claimed - asked) > 1e-6:
                return f"{worker!r}: its tasks ask for {asked} of {name!r}, and {claimed} are recorded"
        if worker.nbytes != sum(task.get_nbytes() for task in worker.has_what):
            return f"{worker!r}: nbytes is not the sum of what it holds"
    if state.busy != {worker for worker in state.workers.values() if worker.processing}:
        return "the busy workers are not those that process something"
    occupancy = sum(worker.occupancy for worker in state.workers.values())
    if abs(state.total_occupancy - occupancy) > 1e-6 or (not state.busy and state.total_occupancy):
        return f"total_occupancy is {state.total_occupancy}, and that of all workers {occupancy}"
    promises = state.promises
    if Counter(promises.workers.values()) != promises.counts or len(promises.followers) != len(promises.workers):
        return "what is promised is not what is counted"
    if len(state.queued) != sum(task.state == "queued" for task in state.tasks.values()):
        return "the queue's length is wrong"
    for group in state.tasks.groups.values():
        known = sum(count for name, count in group.states.items() if name != "forgotten")
        if known != group.count:
            return f"{group!r}: counts {known} tasks, knows {group.count}"
    if state.total_nthreads != sum(worker.nthreads for worker in state.workers.values()):
        return "total_nthreads is not the sum over workers"
    if state.queued and any(worker in state.running for worker in state.open_workers):
        return f"{len(state.queued)} tasks are queued though {list(state.open_workers)} have room"
    return _of_groups(state) or _of_bandwidths(state)


def _of_groups(state: SchedulerCore) -> str | None:
    """What is counted of tasks as they go, against the tasks."""
    tasks: dict[TaskGroup, list[TaskState]] = {group: [] for group in state.tasks.groups.values()}
    for task in state.tasks.values():
        tasks[task.group].append(task)
    for group, members in tasks.items():
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
