"""The message that has a worker compute a task, with its function if the worker has not been sent that yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.keys import Key
from headrace.messages.base import NO_OPTIONS
from headrace.messages.worker import ComputeTask, DefineFunction, TaskExtras

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState

#: Columns of a message about a task without dependencies, shared by all.
_NOTHING_NEEDED: tuple[list[Key], list[list[str]], list[int]] = ([], [], [])


def send_task(state: SchedulerCore, task: TaskState, worker: WorkerState) -> None:
    """Tell the worker what to compute, and where what that takes is now."""
    state.attempts += 1
    task.attempt = state.attempts
    function = task.function
    assert function is not None
    if worker not in function.known_by:
        function.known_by.add(worker)
        state.send(worker, DefineFunction(function.number, function.pickled))
    keys, who_has, nbytes = _NOTHING_NEEDED
    if task._dependencies:
        keys, who_has, nbytes = [], [], []
        for dependency in task._dependencies:
            keys.append(dependency.key)
            who_has.append([holder.address for holder in dependency.who_has])
            nbytes.append(dependency.get_nbytes())
    message = ComputeTask(
        task.key,
        task.attempt,
        task.priority,
        function.number,
        task.arguments,
        task.group.prefix.duration_average,
        _somebody_listens(task),
        keys,
        who_has,
        nbytes,
        extras_of(task) if task.options is not NO_OPTIONS else None,
    )
    outbox = worker.outbox
    if not outbox:
        state.dirty.append(worker)
    outbox.append(message)


def _somebody_listens(task: TaskState) -> bool:
    """Whether a client wants the result itself, and not only its being kept."""
    wanting = task.who_wants
    if len(wanting) == 1:
        (client,) = wanting
        return not client.silent
    return any(not client.silent for client in wanting)


def extras_of(task: TaskState) -> TaskExtras | None:
    """Resources, annotations and being an actor, for the worker; `None` for the many tasks without them."""
    options = task.options
    if options.resources or options.actor or options.annotations:
        return TaskExtras(options.resources, options.actor, options.annotations)
    return None
