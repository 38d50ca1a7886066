"""Tasks that are interrupted while they wait for other tasks: they must leave at once, not when these are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace import Client, Event, Lock, Queue, Variable, as_completed, get_client, wait
from headrace.exceptions import TaskTimeout


def gated(name: str) -> None:
    Event(f"{name}-gate").wait()


def waits(name: str, how: Callable[[Any], Any]) -> None:
    try:
        how(get_client().submit(gated, name, pure=False))
    except BaseException:
        Event(f"{name}-left").set()
        raise


WAYS = {
    "result": lambda future: future.result(),
    "gather": lambda future: future.client.gather([future]),
    "wait": wait,
    "as-completed": lambda future: list(as_completed([future])),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_a_task_that_waits_for_others_can_be_interrupted(client: Client, name: str) -> None:
    future = client.submit(waits, name, WAYS[name], pure=False, timeout=0.3)
    try:
        assert isinstance(future.exception(timeout=30), TaskTimeout)
        assert Event(f"{name}-left", client=client).wait(timeout=15)
    finally:
        Event(f"{name}-gate", client=client).set()


def waits_for(name: str, how: Callable[[str], Any]) -> None:
    try:
        how(name)
    except BaseException:
        Event(f"{name}-left").set()
        raise


COORDINATION = {
    "event": lambda name: Event(f"{name}-gate").wait(),
    "lock": lambda name: Lock(f"{name}-lock").acquire(),
    "queue": lambda name: Queue(f"{name}-queue").get(),
    "variable": lambda name: Variable(f"{name}-variable").get(),
}


@pytest.mark.parametrize("name", COORDINATION)
def test_a_task_that_waits_for_coordination_can_be_interrupted(client: Client, name: str) -> None:
    lock, queue = Lock(f"{name}-lock", client=client), Queue(f"{name}-queue", client=client)
    with lock:
        future = client.submit(waits_for, name, COORDINATION[name], pure=False, timeout=0.3)
        assert isinstance(future.exception(timeout=30), TaskTimeout)
        assert Event(f"{name}-left", client=client).wait(timeout=15), "its thread is left to itself"
    queue.put("for the next")
    assert queue.get(timeout=15) == "for the next"
    assert lock.acquire(timeout=15)
    lock.release()
