"""Calls at intervals, which may change."""

from __future__ import annotations

import asyncio

from headrace.rpc import PeriodicCallback


async def calls(callback: PeriodicCallback, called: asyncio.Event, number: int) -> None:
    for _ in range(number):
        await asyncio.wait_for(called.wait(), 10)
        called.clear()
    callback.stop()


async def test_another_period_begins_with_the_next_call_soon() -> None:
    called = asyncio.Event()
    callback = PeriodicCallback(called.set, 3_600_000)
    callback.start()
    callback.change_period(5, 0.001)
    await calls(callback, called, 3)


async def test_the_next_call_is_not_put_off_by_a_longer_period() -> None:
    called = asyncio.Event()
    callback = PeriodicCallback(called.set, 10)
    callback.start()
    callback.change_period(3_600_000, 1_000)
    await calls(callback, called, 1)
    assert callback.callback_time == 3_600_000


async def test_a_period_that_changes_while_it_is_stopped_holds_from_the_next_start() -> None:
    called = asyncio.Event()
    callback = PeriodicCallback(called.set, 3_600_000)
    callback.change_period(5, 0.001)
    assert not callback.is_running()
    callback.start()
    await calls(callback, called, 2)
