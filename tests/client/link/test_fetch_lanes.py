"""How many fetches are under way at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headrace.client.link.fetch_lanes import Lanes


def fetching(done: asyncio.Event, begun: list[Any], name: Any) -> Callable[[], Awaitable[Any]]:
    async def fetch() -> Any:
        begun.append(name)
        await done.wait()
        return name

    return fetch


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_lane_is_as_wide_as_it_is_and_keeps_the_order() -> None:
    lanes, done, begun = Lanes(2), asyncio.Event(), list[Any]()
    fetches = [asyncio.ensure_future(lanes.through("a", fetching(done, begun, number))) for number in range(5)]
    await turn()
    assert begun == [0, 1]
    other = asyncio.ensure_future(lanes.through("b", fetching(done, begun, "other")))
    await turn()
    assert begun == [0, 1, "other"]
    done.set()
    assert await asyncio.gather(*fetches) == [0, 1, 2, 3, 4]
    assert begun == [0, 1, "other", 2, 3, 4]
    assert await other == "other"
    assert not lanes._lanes


async def test_failures_and_cancellations_leave_room() -> None:
    lanes, done, begun = Lanes(1), asyncio.Event(), list[Any]()

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await lanes.through("a", fail)
    first, second, third = (
        asyncio.ensure_future(lanes.through("a", fetching(done, begun, number))) for number in range(3)
    )
    await turn()
    second.cancel()
    first.cancel()
    await turn()
    assert begun == [0, 2]
    done.set()
    assert await third == 2
    assert first.cancelled()
    assert second.cancelled()
    assert not lanes._lanes
