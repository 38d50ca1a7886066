"""Ticks of a loop: their number, and how late they were."""

from __future__ import annotations

import asyncio
import time

from headrace.rpc.loops.ticks import TickOptions, Ticks
from headrace.testing.helpers.polling import async_poll_for

SELDOM = TickOptions(interval=3600, limit=3, finest=0.005)


async def test_it_ticks_as_configured_once_somebody_measures() -> None:
    ticks = Ticks("Worker", SELDOM)
    ticks.start()
    try:
        assert ticks.measure() == 0
        await async_poll_for(lambda: ticks.count > 2, 10)
    finally:
        ticks.stop()


async def test_the_mean_interval_follows_who_measures() -> None:
    ticks = Ticks("Worker", SELDOM)
    ticks.start()
    try:
        assert ticks.mean_interval == SELDOM.interval
        ticks.measure()
        await async_poll_for(lambda: ticks.count > 2, 10)
        assert SELDOM.finest <= ticks.mean_interval < SELDOM.interval
    finally:
        ticks.stop()


async def test_the_longest_delay_is_told_once() -> None:
    ticks = Ticks("Worker", SELDOM)
    ticks.start()
    try:
        ticks.measure()
        time.sleep(0.3)  # on the loop
        assert ticks.measure() > 0.2  # before the late tick has had its turn
        seen = ticks.count
        await async_poll_for(lambda: ticks.count > seen, 10)
        assert ticks.measure() > 0.2  # and after it
        assert ticks.measure() < 0.2
    finally:
        ticks.stop()


async def test_without_a_limit_it_ticks_for_who_measures_only_and_warns_nobody() -> None:
    ticks = Ticks("Worker", TickOptions(interval=0.005, limit=0, finest=0.005))
    ticks.start()
    try:
        assert ticks._timer is None
        ticks.measure()
        await async_poll_for(lambda: ticks.count > 0, 10)
    finally:
        ticks.stop()


async def test_a_loop_that_has_stopped_is_not_set_ticking_by_who_measures() -> None:
    ticks = Ticks("Worker", SELDOM)
    ticks.start()
    ticks.stop()
    ticks.measure()
    assert ticks._timer is None
    await asyncio.sleep(0)
