"""How often workers say that they live, as their number changes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from headrace import Scheduler, Worker
from headrace.messages.worker import HeartbeatInterval
from headrace.scheduler.connections import heart_rates
from headrace.scheduler.connections.heart_rates import following_interval, heartbeat_interval
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from headrace.worker.session import BEAT_SECONDS, seconds_to_beat
from tests.worker.fake import FakeScheduler


def intervals(numbers: Any, kept: float = 0.5) -> list[float]:
    """The intervals that are told, one after the other."""
    told = []
    for number in numbers:
        following = following_interval(kept, number)
        if following != kept:
            told.append(following)
        kept = following
    return told


def test_the_interval_grows_with_the_workers_and_shrinks_with_them() -> None:
    up = intervals(range(1, 5001))
    assert up == sorted(up)
    assert up[:2] == [1, 2]
    assert len(up) < 20  # of 5,000 workers each is told a few times only
    for number in (1, 10, 11, 49, 50, 300, 1000, 5000):
        kept = 0.5
        for now in range(1, number + 1):
            kept = following_interval(kept, now)
        assert heartbeat_interval(number) / 1.25 - 0.05 <= kept <= heartbeat_interval(number) + 0.05
    down = intervals(range(5000, -1, -1), up[-1])
    assert down == sorted(down, reverse=True)
    assert down[-1] == 0.5


@pytest.mark.parametrize("number", [10, 49, 199, 250, 1000])
def test_workers_that_come_and_go_at_a_border_do_not_move_it(number: int) -> None:
    kept = following_interval(0.5, number + 1)
    assert len(intervals([number, number + 1] * 50, kept)) <= 1


@gen_cluster(nthreads=[])
async def test_workers_are_told_as_their_number_changes(s: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart_rates, "heartbeat_interval", lambda n: 0.5 if n < 2 else 0.9)
    async with Worker(s.address) as first:
        assert first.periodic_callbacks["heartbeat"].callback_time == 500
        async with Worker(s.address) as second, Worker(s.address, heartbeat_interval="7s") as own:
            assert s.parts.heart_rates.interval == 0.9
            for worker in (first, second):
                beat = worker.periodic_callbacks["heartbeat"]
                await async_poll_for(lambda beat=beat: beat.callback_time == 900, 10)  # type: ignore[misc]
            assert own.periodic_callbacks["heartbeat"].callback_time == 7000
            seen = s.workers[first.address].last_seen
            await async_poll_for(lambda: s.workers[first.address].last_seen > seen, 10)
        monkeypatch.setattr(heart_rates, "heartbeat_interval", lambda n: 0.5)
        s.parts.heart_rates.follow()
        await async_poll_for(lambda: first.periodic_callbacks["heartbeat"].callback_time == 500, 10)


@pytest.mark.parametrize("interval", [0.05, 0.5, 1, 2, 6.3, 26])
def test_heartbeats_of_many_workers_come_at_the_same_moments(interval: float) -> None:
    for _ in range(100):
        now = time.time()
        first = seconds_to_beat(interval)
        assert 0 <= first <= interval + 1e-6
        if interval > BEAT_SECONDS:
            assert abs((now + first) / BEAT_SECONDS - round((now + first) / BEAT_SECONDS)) < 0.1


async def test_a_worker_keeps_to_what_it_is_told() -> None:
    async with FakeScheduler() as scheduler:
        await scheduler.server.listen("tcp://127.0.0.1:0")
        async with Worker(scheduler.address, name="a") as worker:
            scheduler.send("a", HeartbeatInterval(0.01))
            beat = worker.periodic_callbacks["heartbeat"]
            await async_poll_for(lambda: beat.callback_time == 10, 10)
            await scheduler.heartbeat("a")
            await scheduler.heartbeat("a")
