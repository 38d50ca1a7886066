"""The doors of the core through which the shell passes messages of clients and workers, one row a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.exceptions import UnknownMessage
from headrace.messages.client import CancelKeys, DesireKeys, ReleaseKeys, SubmitGraph

from .state.core import SchedulerState as SchedulerCore
from .state.flow import completion
from .state.records.clients import ClientState
from .state.records.workers import WorkerState

FROM_CLIENT: dict[type, Callable[[SchedulerCore, ClientState, Any, float], None]] = {
    SubmitGraph: SchedulerCore.on_submit,
    ReleaseKeys: SchedulerCore.on_release,
    DesireKeys: SchedulerCore.on_desire,
    CancelKeys: SchedulerCore.on_cancel,
}
FROM_WORKER = completion.HANDLERS


def handle(core: SchedulerCore, client: ClientState, message: Any, now: float) -> None:
    """A client's message.

    Raises:
        UnknownMessage: it is none that the core takes.
    """
    take = FROM_CLIENT.get(type(message))
    if take is None:
        raise UnknownMessage(f"the scheduler does not take {type(message).__name__} from clients")
    take(core, client, message, now)


def handle_batch(core: SchedulerCore, worker: WorkerState, messages: list[Any], now: float) -> None:
    """A worker's messages, in order.

    Raises:
        UnknownMessage: there is one that the core does not take; those before it have been taken.
    """
    for position, message in enumerate(messages):
        if type(message) not in FROM_WORKER:
            core.on_worker_batch(worker, messages[:position], now)
            raise UnknownMessage(f"the scheduler does not take {type(message).__name__} from workers")
    core.on_worker_batch(worker, messages, now)
