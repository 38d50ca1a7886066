"""Interest in tasks: clients that ask for results, let them go, cancel them, or leave."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headrace.common.keys import Key
from headrace.messages.client import CancelledKeys, KeyInMemory
from headrace.scheduler.state.records.tasks import NOTHING
from headrace.scheduler.state.transitions.forgetting import forget_result

from .client_news import tell_erred

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.clients import ClientState
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.transitions.engine import Recommendations


def add_interest(client: ClientState, task: TaskState) -> None:
    """The client wants the result."""
    if client not in task.who_wants:
        task.who_wants = task.who_wants | client.alone if task.who_wants else client.alone
        client.wants_what.add(task)


def release_tasks(state: SchedulerCore, client: ClientState, tasks: Iterable[TaskState]) -> Recommendations:
    """The client no longer wants these; what nobody wants or needs is released or forgotten."""
    recommendations: Recommendations = {}
    alone = client.alone
    for task in tasks:
        wanting = task.who_wants
        if wanting is alone:
            task.who_wants = NOTHING
        elif client in wanting:
            task.who_wants = rest = wanting - alone
            client.wants_what.discard(task)
            if len(rest) == 1:
                (last,) = rest
                task.who_wants = last.alone
            continue
        else:
            continue
        client.wants_what.discard(task)
        if not task._dependents:
            if task.state == "memory" and not task._dependencies and state.short_ways:
                forget_result(state, task)
            else:
                recommendations[task] = "forgotten"
        elif not task._waiters and task.state not in ("erred", "released"):
            recommendations[task] = "released"
    return recommendations


def desire_until_done(state: SchedulerCore, keys: Iterable[Key]) -> Recommendations:
    """Keep tasks on behalf of nobody until they are done (`fire_and_forget`)."""
    recommendations: Recommendations = {}
    for key in keys:
        task = state.tasks.get(key)
        if task is not None and task.state not in ("memory", "erred"):
            add_interest(state.until_done, task)
            if task.state == "released":
                recommendations[task] = "waiting"
    return recommendations


def let_go_when_done(state: SchedulerCore, task: TaskState, recommendations: Recommendations) -> None:
    """A task that was kept until done is done."""
    if task in state.until_done.wants_what:
        recommendations.update(release_tasks(state, state.until_done, [task]))


def desire_keys(state: SchedulerCore, client: ClientState, keys: Iterable[Key]) -> Recommendations:
    """The client wants existing tasks; it is told where they stand."""
    recommendations: Recommendations = {}
    for key in keys:
        task = state.tasks.get(key)
        if task is None:
            state.send(client, CancelledKeys([key], "the scheduler does not know this key (any more)"))
            continue
        add_interest(client, task)
        if task.state == "memory":
            state.send(client, KeyInMemory(key, task.type))
        elif task.state == "erred":
            tell_erred(state, task)
        elif task.state == "released":
            recommendations[task] = "waiting"
    return recommendations


def cancel_keys(
    state: SchedulerCore, client: ClientState, keys: Iterable[Key], force: bool, reason: str
) -> Recommendations:
    """Stop tasks and what depends on them, for this client, or with `force` for all.

    The client is told of every key that it names, wanted or not: it waits for that before it believes other news of it.
    """
    keys = list(keys)
    recommendations: Recommendations = {}
    pending = [task for key in keys if (task := state.tasks.get(key)) is not None]
    seen: set[TaskState] = set()
    cancelled: dict[ClientState, list[TaskState]] = {}
    while pending:
        task = pending.pop()
        if task in seen:
            continue
        seen.add(task)
        for wanting in task.who_wants if force else task.who_wants & client.alone:
            cancelled.setdefault(wanting, []).append(task)
        if force or not (task.who_wants - client.alone):
            pending.extend(task._dependents or ())
    cancelled.setdefault(client, [])
    for wanting, tasks in cancelled.items():
        if not wanting.silent:
            told = dict.fromkeys(keys if wanting is client else ())
            told.update((task.key, None) for task in tasks)
            state.send(wanting, CancelledKeys(list(told), reason))
        recommendations.update(release_tasks(state, wanting, tasks))
    return recommendations


def drop_client(state: SchedulerCore, client: ClientState) -> Recommendations:
    """A client has left."""
    recommendations = release_tasks(state, client, list(client.wants_what))
    for graph in client.graphs.values():
        recommendations.update(release_tasks(state, state.holder, graph.held))
    client.graphs.clear()
    client.outbox.clear()
    return recommendations
