"""Waiting for what other threads, tasks and processes bring about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TYPE_CHECKING

from headrace.common.keys import Key

if TYPE_CHECKING:
    from headrace import Scheduler, Worker


def poll_for(
    predicate: Callable[[], bool],
    timeout: float = 15,
    fail_func: Callable[[], None] | None = None,
    period: float = 0.05,
) -> None:
    """Wait until `predicate()` is true, and look every `period` seconds.

    Args:
        fail_func: called after `timeout` seconds, to show what there is, before this fails.

    Raises:
        AssertionError: it was not true within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            if fail_func is not None:
                fail_func()
            raise AssertionError(f"not so within {timeout} s: {predicate}")
        time.sleep(period)


async def async_poll_for(
    predicate: Callable[[], bool | Awaitable[bool]],
    timeout: float = 15,
    fail_func: Callable[[], None] | None = None,
    period: float = 0.05,
) -> None:
    """Wait as `poll_for` does, without blocking the event loop."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if await value if isawaitable(value) else value:
            return
        if time.monotonic() > deadline:
            if fail_func is not None:
                fail_func()
            raise AssertionError(f"not so within {timeout} s: {predicate}")
        await asyncio.sleep(period)


async def wait_for_state(
    key: Key, state: str | tuple[str, ...], dask_worker: Worker | Scheduler, *, interval: float = 0.01
) -> None:
    """Wait until a task of a Worker or Scheduler is in a state (or one of several)."""
    wanted = {state} if isinstance(state, str) else set(state)
    tasks = dask_worker.state.tasks if hasattr(dask_worker, "state") else dask_worker.tasks
    while key not in tasks or tasks[key].state not in wanted:
        await asyncio.sleep(interval)


async def padded_time(before: float = 0.05, after: float = 0.05) -> float:
    """The time, in seconds since the epoch: surely after what was before and before what comes after."""
    await asyncio.sleep(before)
    now = time.time()
    await asyncio.sleep(after)
    return now


def run_for(duration: float, timer: Callable[[], float] = time.time) -> None:
    """Keep this thread busy for some seconds."""
    deadline = timer() + duration
    while timer() < deadline:
        pass
