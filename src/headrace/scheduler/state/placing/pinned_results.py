"""Results that cannot leave the worker that made them, since they cannot be pickled (a socket, a lock).

That is known of a result once somebody has tried to fetch it. From then on what needs it runs where it is; what was
sent elsewhere before, and could not be run for that reason, is placed anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.messages.worker import CannotSend

from .restrictions import may_run

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState
    from headrace.scheduler.state.transitions.engine import Recommendations


def on_cannot_send(state: SchedulerCore, worker: WorkerState, message: CannotSend) -> Recommendations:
    """A worker has asked for a result that its holder cannot send."""
    task = state.tasks.get(message.key)
    if task is not None and task.who_has:
        state.staying.add(task)
    return {}


def stays(state: SchedulerCore, task: TaskState) -> bool:
    """Whether something that the task needs cannot be sent to where the task is placed."""
    return any(dependency in state.staying for dependency in task._dependencies)


def homes(state: SchedulerCore, task: TaskState) -> set[WorkerState]:
    """The workers that hold all that cannot be sent of what the task needs, as far as it may run there."""
    holders = [dependency.who_has for dependency in task._dependencies if dependency in state.staying]
    if not holders:
        return set()
    return {worker for worker in frozenset.intersection(*holders) if may_run(state, task, worker)}


def candidates_among(
    state: SchedulerCore, task: TaskState, candidates: list[WorkerState] | None
) -> list[WorkerState] | None:
    """Of the workers that may run the task, those at which all is that cannot be sent.

    None of them may be running now; one waits for that. If there can be none, the task is placed as if all could be
    sent, and its error says what could not.
    """
    found = homes(state, task)
    if not found:
        return candidates
    return sorted((worker for worker in found if worker in state.running), key=lambda worker: worker.address)


def has_other_home(state: SchedulerCore, task: TaskState, worker: WorkerState) -> bool:
    """Whether a task failed on this worker for want of what cannot be sent, and can run elsewhere."""
    found = homes(state, task)
    return bool(found) and worker not in found
