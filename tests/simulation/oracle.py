"""What must hold in the end: every wanted key is right, and every released one is gone everywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace.client.state import FutureState

from .graphs import Call, opened

if TYPE_CHECKING:
    from .client import SimulatedClient
    from .world import World


def all_done(world: World) -> bool:
    """Whether all that users wait for has come to an end."""
    if any(worker.alive and worker.frozen_until > world.timeline.now for worker in world.workers):
        return False
    if any(client.scattering for client in world.clients):
        return False
    return all(client.connected and all(s.done() for s in client.held.values()) for client in world.clients)


def all_gathered(world: World) -> bool:
    """Whether users have all results, which they ask for until they do."""
    done = all_done(world)
    for client in world.clients:
        for key, state in client.held.items():
            if state.status != "finished" or state.result is not None:
                continue
            task = world.scheduler.state.tasks.get(key)
            if key not in client.gathered:
                client.gather(key)
                done = False
            elif task is None or task.state != "memory":
                done = False  # the news that it is lost is under way
    return done


def check_results(world: World) -> None:
    """Each wanted key has the value of a serial run, the right error, or a good reason to be cancelled."""
    for client in world.clients:
        for key, state in client.held.items():
            match state.status:
                case "finished":
                    _check_value(world, client, key, state)
                case "error":
                    _check_error(world, client, key, state)
                case "cancelled":
                    assert _may_be_cancelled(world, client, key, set()), f"{client}: {key} is cancelled: {state.reason}"


def _check_value(world: World, client: SimulatedClient, key: str, state: FutureState) -> None:
    culprits = [call.key for call in world.universe.needs(key) if call.must_err()]
    assert not culprits, f"{client}: {key} is finished although {culprits} cannot be"
    if state.result is not None:
        client.check(key, opened(state.result))
        return
    task = world.scheduler.state.tasks.get(key)
    assert task is not None, f"{client}: {key} is finished, and the scheduler does not know it"
    assert task.state == "memory", f"{client}: {key} is finished, and the scheduler has it as {task.state}"
    assert key in client.gathered, f"{client}: {key} is finished, and cannot be had"


def _check_error(world: World, client: SimulatedClient, key: str, state: FutureState) -> None:
    error = state.error
    assert error is not None
    assert error.blame in world.universe.calls[key].ancestors, f"{client}: {key} fails because of {error.blame}"
    blame: Call = world.universe.calls[error.blame]  # type: ignore[index]
    text = error.exception_text
    if "workers that died" in text:
        assert re.search(rf"task '{re.escape(blame.key)}'.*tcp://", text), f"{key}: {text}"
        allowed = world.scheduler.state.options.allowed_failures
        assert blame.departures > allowed, f"{blame.key} is said to kill, and lost {blame.departures} workers: {text}"
    elif "workers that left" in text:
        assert re.search(rf"task '{re.escape(blame.key)}'.*tcp://", text), f"{key}: {text}"
        least = max(1, world.scheduler.state.options.allowed_failures)
        assert blame.departures > least, f"{blame.key} is said to end workers, and {blame.departures} went: {text}"
    else:
        assert blame.may_err(), f"{client}: {key} fails because of {blame.key}, which cannot: {text}"
        assert text == f"boom {blame.key}", f"{key}: {text}"


def _may_be_cancelled(world: World, client: SimulatedClient, key: str, seen: set[str]) -> bool:
    if key in seen:
        return False
    seen.add(key)
    if key in client.may_be_cancelled or key in world.may_be_cancelled:
        return True
    if any(call.key in world.scheduler.lost for call in world.universe.needs(key)):
        return True
    needed = [name for keys, external in client.groups if key in keys for name in external]
    needed += world.universe.calls[key].dependencies
    return any(_may_be_cancelled(world, client, name, seen) for name in needed)


def left_over(world: World) -> list[str]:
    """What is still somewhere although nobody wants anything."""
    state = world.scheduler.state
    found: list[Any] = [f"scheduler has {task!r}" for task in state.tasks.values()]
    for worker in world.workers:
        if not worker.alive:
            continue
        found += [f"{worker} has {task!r}" for task in worker.state.tasks.values()]
        found += [f"{worker} keeps the value of {key}" for key in worker.data]
        found += [f"{worker} interrupts {key}" for key in worker.state.interrupted]
        record = state.workers.get(worker.address)
        if record is None:
            found.append(f"{worker} is not registered")
        elif record.processing or record.has_what or record.nbytes or any(record.used_resources.values()):
            found.append(f"the record of {worker} is not empty")
        if worker.state.available_resources != worker.resources:
            found.append(f"{worker} has {worker.state.available_resources} of {worker.resources}")
    for client in world.clients:
        found += [f"{client} keeps {key}" for key in client.state.futures]
    if len(state.clients) != len(world.clients):
        found.append(f"clients {list(state.clients)} are connected")
    if state.delays:
        found.append(f"{len(state.delays)} tasks wait for their next attempt")
    if state.queued or state.unrunnable or abs(state.total_occupancy) > 1e-9:
        found.append(
            f"{len(state.queued)} queued, {len(state.unrunnable)} unrunnable, {state.total_occupancy} s of work"
        )
    return found


def describe(world: World) -> str:
    """What is not done, with the stories."""
    lines = [""]
    keys = set()
    for client in world.clients:
        for key, state in client.held.items():
            if not state.done():
                lines.append(f"{client} waits for {key} ({state.status})")
                keys |= world.universe.calls[key].ancestors
        if not client.connected:
            lines.append(f"{client} is not connected")
    lines += left_over(world)[:20]
    for key in sorted(keys):
        task = world.scheduler.state.tasks.get(key)
        where = task.processing_on if task is not None else None
        lines.append(f"{key}: scheduler has {task!r} {where or ''}")
        for worker in world.workers:
            record = worker.state.tasks.get(key)
            if worker.alive and record is not None:
                lines.append(f"  {worker} has {record!r}, waits for {record.waiting_for_data or 'nothing'}")
                lines += [f"    {line}" for line in worker.state.story(key)[-6:]]
        lines += [f"  {line}" for line in world.scheduler.state.story(key)[-6:]]
    return "\n".join(lines)
