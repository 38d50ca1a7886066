"""Messages of clients: one function a message, and the table of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.messages.client import CancelKeys, DesireKeys, ReleaseKeys, SubmitGraph

from . import interest, interruption
from .graph_intake import take_graph

if TYPE_CHECKING:
    from headrace.messages.base import Message
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.clients import ClientState
    from headrace.scheduler.state.transitions.engine import Recommendations


def on_submit(state: SchedulerCore, client: ClientState, message: SubmitGraph) -> Recommendations:
    """Take (a part of) a graph; a bad one is refused with `GraphRefused`."""
    state.stimulus = "update-graph"
    return take_graph(state, client, message)


def on_desire(state: SchedulerCore, client: ClientState, message: DesireKeys) -> Recommendations:
    """Note that a client wants existing tasks, or that they are to be kept until done on behalf of nobody."""
    state.stimulus = "client-desires-keys"
    if message.until_done:
        return interest.desire_until_done(state, message.keys)
    return interest.desire_keys(state, client, message.keys)


def on_release(state: SchedulerCore, client: ClientState, message: ReleaseKeys) -> Recommendations:
    """Note that a client no longer wants tasks."""
    state.stimulus = "client-releases-keys"
    tasks = [task for key in message.keys if (task := state.tasks.get(key)) is not None]
    return interest.release_tasks(state, client, tasks)


def on_cancel(state: SchedulerCore, client: ClientState, message: CancelKeys) -> Recommendations:
    """Stop work on tasks and on what depends on them; workers are told to call off before they are to interrupt."""
    state.stimulus = "cancel-keys"
    placed = interruption.placed_tasks(state, message.keys) if message.running else ()
    state.settle(interest.cancel_keys(state, client, message.keys, message.force, message.reason))
    interruption.interrupt_called_off(state, placed, message.force)
    return {}


#: What the core takes of clients; the other messages of `FromClient` are the shell's.
CLIENT_MESSAGES: dict[type[Message], Callable[[SchedulerCore, ClientState, Any], Recommendations]] = {
    SubmitGraph: on_submit,
    DesireKeys: on_desire,
    ReleaseKeys: on_release,
    CancelKeys: on_cancel,
}
