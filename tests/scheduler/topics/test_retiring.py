"""Which workers are retired, and how they stand afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Client, Scheduler, Worker
from headrace.common.status import Status
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for


def inc(x: int) -> int:
    return x + 1


@gen_cluster(nthreads=[])
async def test_names_are_compared_as_texts(s: Scheduler) -> None:
    async with Worker(s.address, name="7") as text, Worker(s.address, name=8) as number:
        retired = await s.retire_workers(names=[7, "8", "unknown"])
        assert sorted(retired) == sorted([text.address, number.address])
        assert not s.workers


@gen_cluster(client=True)
async def test_one_way_of_choosing_workers(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    choices: list[dict[str, Any]] = [
        {"workers": [a.address], "names": [b.name]},
        {"workers": [], "names": []},
        {"names": [a.name], "n": 1},
        {"workers": [a.address], "n": 1},
    ]
    for choice in choices:
        with pytest.raises(TypeError, match="not both"):
            await s.retire_workers(**choice)
    with pytest.raises(TypeError, match="not both"):
        await c.retire_workers(workers=[a.address], names=[b.name])
    assert set(s.workers) == {a.address, b.address}
    assert len(await s.retire_workers(n=1)) == 1


@gen_cluster(client=True)
async def test_a_worker_that_is_not_removed_stays_and_may_go_on(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    (address,) = await s.retire_workers([a.address], remove=False)
    assert address == a.address
    await async_poll_for(lambda: a.status is Status.closing_gracefully, timeout=10)
    assert s.workers[a.address].status is Status.closing_gracefully
    future = c.submit(inc, 1, workers=[a.address])
    await async_poll_for(lambda: future.key in s.tasks, timeout=10)
    assert s.tasks[future.key].state == "no-worker"
    a.status = Status.running
    assert await future == 2
    assert s.workers[a.address].status is Status.running


@gen_cluster(nthreads=[("127.0.0.1", 1)] * 2)
async def test_a_retired_worker_can_still_leave(s: Scheduler, a: Worker, b: Worker) -> None:
    await s.retire_workers([a.address], remove=False)
    await async_poll_for(lambda: a.status is Status.closing_gracefully, timeout=10)
    await a.close_gracefully()
    assert a.status is Status.closed
    assert set(s.workers) == {b.address}
