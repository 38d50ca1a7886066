"""Requests for a turn to leave that are made twice, and clients that die while they scatter."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.scheduler.state.data.scatters import Scatters
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for


@gen_cluster(nthreads=[("127.0.0.1", 1)] * 2)
async def test_who_asks_again_has_one_place_in_line(s: Any, a: Any, b: Any) -> None:
    s.parts.departures._going["somebody"] = None  # whose turn it is
    first = asyncio.create_task(s.parts.departures.turn_to_leave(a.address, restart=True))
    other = asyncio.create_task(s.parts.departures.turn_to_leave(b.address, restart=True))
    await async_poll_for(lambda: len(s.parts.departures._line) == 2, 10)
    again = asyncio.create_task(s.parts.departures.turn_to_leave(a.address, restart=True))
    assert await first == {"status": "asked-again"}
    assert list(s.parts.departures._line) == [a.address, b.address]
    del s.parts.departures._going["somebody"]
    assert await again == {"status": "OK"}
    assert not other.done()
    s.parts.departures._going.clear()
    assert await other == {"status": "OK"}


def test_scatterings_of_clients_that_died_are_forgotten() -> None:
    scatters = Scatters()
    scatters.begin(["x", "y"], "dead", now=0.0)
    number = scatters.begin(["y"], "alive", now=scatters.open_seconds - 1)
    scatters.begin(["z"], "alive", now=scatters.open_seconds + 1)
    assert list(scatters.under_way) == ["y", "z"]
    scatters.begin(["z"], "alive", now=3 * scatters.open_seconds)
    assert list(scatters.under_way) == ["z"]
    scatters.end(number)
