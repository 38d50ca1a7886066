"""News of a task for the clients that want it: its result is there, or it failed.

The core's own clients (`ClientState.silent`) are told nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.messages.client import KeyInMemory, TaskErred

if TYPE_CHECKING:
    from headrace.messages.base import Payload
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState


def tell_in_memory(state: SchedulerCore, task: TaskState, result: Payload) -> None:
    """Tell the clients that want a task that its result is there; those that read slowly fetch it themselves."""
    for client in task.who_wants:
        if not client.silent:
            state.send(client, KeyInMemory(task.key, task.type, None if client.slow else result))


def tell_erred(state: SchedulerCore, task: TaskState) -> None:
    """Send the failure that the task shares to the clients that want it."""
    cause = task.exception_blame or task
    for client in task.who_wants:
        if not client.silent:
            state.send(client, erred_message(task, cause))


def erred_message(task: TaskState, cause: TaskState) -> TaskErred:
    """The failure of `task`, which is that of `cause`."""
    return TaskErred(task.key, cause.exception, cause.traceback, cause.key, cause.exception_text, cause.traceback_text)
