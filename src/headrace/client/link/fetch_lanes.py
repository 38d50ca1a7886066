"""Limits how many fetches of one client are under way to one server: the others wait until one of them is over.

Each takes a connection of its own, and results may be fetched one by one, by the thousand: that would use up what
descriptors there are, on both sides. A server that does not answer holds up nobody who asks another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

#: Fetches that may be under way to one server.
WIDTH = 16


class Lanes:
    """Of one client, for the thread of its loop.

    Args:
        width: fetches that may be under way in one lane.
    """

    def __init__(self, width: int = WIDTH) -> None:
        self._width = width
        self._lanes: dict[str, _Lane] = {}

    async def through(self, name: str, fetch: Callable[[], Awaitable[T]]) -> T:
        """Call `fetch` when the lane of that name has room, in the order of asking, and return its result.

        Raises:
            Exception: what `fetch` raises.
        """
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(self._width)
        lane.users += 1
        try:
            async with lane.room:
                return await fetch()
        finally:
            lane.users -= 1
            if not lane.users:
                del self._lanes[name]


class _Lane:
    """One lane: how many are in it or wait for it, and the room that it has."""

    __slots__ = ("room", "users")

    def __init__(self, width: int) -> None:
        self.room = asyncio.Semaphore(width)
        self.users = 0
