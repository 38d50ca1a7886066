"""Data that clients put on workers themselves: results that no task has computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.keys import Key
from headrace.messages.client import CancelledKeys, KeyInMemory
from headrace.scheduler.state.data.replicas import add_replica
from headrace.scheduler.state.data.scatters import note_scattered
from headrace.scheduler.state.records.tasks import LOST

from .interest import add_interest

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.clients import ClientState
    from headrace.scheduler.state.transitions.engine import Recommendations


def add_data(
    state: SchedulerCore,
    client: ClientState | None,
    who_has: dict[Key, list[str]],
    nbytes: dict[Key, int],
    types: dict[Key, str],
    scattering: int = 0,
) -> Recommendations:
    """Record data that is on workers without a task having computed it."""
    recommendations: Recommendations = {}
    for key, addresses in who_has.items():
        holders = [worker for address in addresses if (worker := state.workers.get(address)) is not None]
        task = state.tasks.get(key)
        if not holders and (task is None or (task.function is None and not task.who_has)):
            if client is not None and not client.silent:
                state.send(client, CancelledKeys([key], LOST))
            continue
        if task is None:
            task = state.tasks.new(key)
        task.type = types.get(key, task.type)
        for worker in holders:
            add_replica(task, worker)
        if scattering:
            note_scattered(task, holders, scattering)
        if key in nbytes:
            task.set_nbytes(nbytes[key])
        if client is not None:
            add_interest(client, task)
        if not task.who_has:
            continue
        if task.state == "memory":
            if client is not None:
                state.send(client, KeyInMemory(task.key, task.type))
        else:
            recommendations[task] = "memory"
    return recommendations
