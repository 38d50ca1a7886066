"""Progress of tasks that are forgotten between the wish to watch them and the first look at them."""

from __future__ import annotations

import pytest

from headrace import Client, Scheduler
from headrace.diagnostics.progress.tally import Tally
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from headrace.testing.helpers.sample_functions import inc


@pytest.mark.parametrize("complete", [True, False])
@gen_cluster(client=True, nthreads=[])
async def test_what_is_forgotten_before_it_is_looked_at_is_lost(c: Client, s: Scheduler, complete: bool) -> None:
    future = c.submit(inc, 1, key="x-1")
    await async_poll_for(lambda: "x-1" in s.tasks, 10)
    tally = Tally(lambda task: "x", complete, lambda: None)
    tally.want(["x-1"], s.tasks)
    tally.give_up_coming()
    await c.cancel([future])
    await async_poll_for(lambda: "x-1" not in s.tasks, 10)
    assert not tally.take_arrived(10)
    assert tally.finished
    group = tally.groups["x"]
    assert (group.total, group.done, group.lost) == (1, 0, 1)
