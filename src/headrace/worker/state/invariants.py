"""Invariants: sentences that hold between two events, checked after each event when `validate` is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tasks import TaskState

if TYPE_CHECKING:
    from .core import WorkerCore


class InvariantViolation(AssertionError):
    """A defect: the state contradicts itself."""

    def to_event(self) -> tuple[str, dict[str, str]]:
        """A topic and a message for `log_event`."""
        return "invalid-worker-task-state", {"text": str(self)}


def check(state: WorkerCore) -> None:
    """Check everything.

    Raises:
        InvariantViolation: with the story of the task concerned.
    """
    queued = queued_tasks(state)
    for key, task in state.tasks.items():
        problem = None if task.key == key else "is filed under another key"
        problem = problem or check_links(task) or check_task(state, task, queued)
        if problem:
            story = "\n  ".join(map(repr, state.story(key)))
            raise InvariantViolation(f"{task!r} {problem}; its story:\n  {story}")
    problem = check_totals(state)
    if problem:
        raise InvariantViolation(problem)


def check_links(task: TaskState) -> str | None:
    """Links between records go both ways."""
    for dependency in task.dependencies:
        if task not in dependency.dependents:
            return f"needs {dependency!r}, which does not know"
    for dependency in task.waiting_for_data:
        if task not in dependency.waiters or dependency not in task.dependencies:
            return f"waits for {dependency!r}, which does not know"
        if dependency.state in ("memory", "released", "forgotten", "cancelled", "error"):
            return f"waits for {dependency!r}, which will not come"
    for waiter in task.waiters:
        if task not in waiter.waiting_for_data:
            return f"is not what {waiter!r} waits for"
    return None


def queued_tasks(state: WorkerCore) -> dict[str, set[TaskState]]:
    """The tasks that are in each kind of queue, looked up once."""
    return {
        "ready": {entry[2] for entry in state.ready},
        "constrained": {entry[2] for heap in state.constrained.values() for entry in heap},
        "fetch": {entry[2] for entry in state.fetch_queue},
    }


def check_task(state: WorkerCore, task: TaskState, queued: dict[str, set[TaskState]]) -> str | None:
    """A record agrees with its state."""
    conditions: dict[str, dict[str, bool]] = {
        "released": {"is held by nothing": bool(task.dependents)},
        "waiting": {"waits for nothing": bool(task.waiting_for_data), "is not filed": task in state.waiting},
        "ready": {
            "waits for data": not task.waiting_for_data,
            "is not queued": task in queued["ready"],
        },
        "constrained": {
            "waits for data": not task.waiting_for_data,
            "is not queued": task in queued["constrained"],
        },
        "executing": {"has no slot": task in state.executing},
        "long-running": {"is not filed": task in state.long_running},
        "fetch": {
            "has no holder": bool(task.who_has),
            "is queued nowhere": any(
                entry[2] is task for address in task.who_has for entry in state.data_needed.get(address, ())
            ),
            "is forgotten by its holders": reachable(state, task),
        },
        "flight": {"is not filed": task in state.in_flight_tasks, "comes from nowhere": task.coming_from is not None},
        "missing": {"is not filed": task in state.missing_dep_flight, "is needed by nothing": bool(task.waiters)},
        "memory": {"is waited for": not task.waiters, "has no size": task.nbytes >= 0, "has holders": not task.who_has},
        "error": {"is waited for": not task.waiters},
        "cancelled": {"is waited for": not task.waiters, "has no previous": task.previous is not None},
        "resumed": {"has no previous or next": task.previous is not None and task.next is not None},
    }
    for complaint, holds in conditions.get(task.state, {"is in a state that does not last": False}).items():
        if not holds:
            return complaint
    going_on = task.previous or task.state
    for name, filed in (
        ("executing", task in state.executing),
        ("long-running", task in state.long_running),
        ("flight", task in state.in_flight_tasks),
    ):
        if filed != (going_on == name):
            return f"is wrongly counted as {name}"
    for address in task.who_has:
        if task not in state.has_what.get(address, ()):
            return f"is not on record with its holder {address}"
    return None


def reachable(state: WorkerCore, task: TaskState) -> bool:
    """Whether a task to fetch will be considered again: it is in the common queue, or a holder is occupied."""
    if any(entry[2] is task or entry[3] in task.who_has for entry in state.fetch_queue):
        return True
    return any(address in state.in_flight_workers or address in state.busy_workers for address in task.who_has)


def check_totals(state: WorkerCore) -> str | None:
    """Sums and queues agree with the records."""
    memory = [task for task in state.tasks.values() if task.state == "memory"]
    if state.in_memory != len(memory) or state.nbytes != sum(max(task.nbytes, 0) for task in memory):
        return f"{state.in_memory} results of {state.nbytes} bytes are counted, {len(memory)} are there"
    if not state.executing and state.backlog:
        return "a backlog without tasks"
    if state.transfer_incoming_bytes != sum(state.in_flight_bytes.values()):
        return "bytes in flight do not add up"
    if state.in_flight_bytes.keys() != state.in_flight_workers.keys():
        return "requests in flight do not agree"
    for key in state.interrupted:
        if key not in state.tasks or state.tasks[key].state not in ("cancelled", "resumed"):
            return f"{key!r} is said to be interrupted, and nothing that was called off goes on with it"
    used = dict.fromkeys(state.total_resources, 0.0)
    for task in state.executing | state.long_running:
        for name, amount in (task.held_resources or {}).items():
            used[name] = used.get(name, 0.0) + amount
    for name, total in state.total_resources.items():
        if abs(total - used[name] - state.available_resources[name]) > 1e-6:
            return (
                f"{state.available_resources[name]} of {total} {name} are said to be free while {used[name]} are in use"
            )
    first = next((entry[2] for entry in sorted(state.ready) if entry[2].state == "ready"), None)
    if first is not None and state.running and len(state.executing) < state.nthreads:
        return f"{first!r} waits although a thread is free"
    for address in state.data_needed:
        occupied = address in state.in_flight_workers or address in state.busy_workers
        full = len(state.in_flight_workers) >= state.transfer_incoming_count_limit or state.transfer_incoming_bytes
        live = [task for _, _, task in state.data_needed[address] if task.state == "fetch" and address in task.who_has]
        if live and not occupied and not full and not state.fetch_queue:
            return f"{live[0]!r} could be fetched from {address}"
    return None
