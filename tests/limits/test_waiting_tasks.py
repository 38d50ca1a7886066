"""Tasks that are interrupted while they wait for other tasks: they must leave at once, not when these are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace import Client, Event, as_completed, get_client, wait
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


@pytest.mark.parametrize("name", WAYS)
def test_a_task_that_waits_for_others_can_be_interrupted(client: Client, name: str) -> None:
    future = client.submit(waits, name, WAYS[name], pure=False, timeout=0.3)
    try:
        assert isinstance(future.exception(timeout=30), TaskTimeout)
        assert Event(f"{name}-left", client=client).wait(timeout=15)
    finally:
        Event(f"{name}-gate", client=client).set()
