"""Invariants of one record and its neighbours, wherever it comes from: the documented `validate_…` functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from headrace.common.keys import Key

if TYPE_CHECKING:
    from headrace.scheduler.state.records.clients import ClientState
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState


class InvariantError(AssertionError):
    """The records contradict each other; the message names what, with the task's story."""


def validate_task_state(ts: TaskState) -> None:
    """Raise `InvariantError` if the record of a task contradicts itself or its neighbours."""
    problem = problem_of_record(ts)
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
    tasks: Mapping[Key, TaskState], workers: Mapping[str, WorkerState], clients: Mapping[str, ClientState]
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


def problem_of_record(task: TaskState) -> str | None:
    """Find what contradicts itself about a task and its neighbours, or `None`."""
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
