"""Somebody sets the wall clock: nothing waits longer or shorter for it, and what is shown is the time of day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest

from headrace import Client, Event, Retry, Scheduler, Worker, clock
from headrace.testing.configuration import new_config
from headrace.testing.helpers.polling import async_poll_for

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")

HOUR = 3600.0
_real = time.time


class Served(NamedTuple):
    scheduler: Scheduler
    worker: Worker
    client: Client


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    def set_it(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: _real() + seconds)

    return set_it


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with (
        asyncio.timeout(30),
        Scheduler(host="127.0.0.1", port=0, validate=True) as scheduler,
        Worker(scheduler.address, nthreads=1, validate=True) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        yield Served(scheduler, worker, client)


class Fails:
    """Fails as often as told."""

    left = 0

    @classmethod
    def until_good(cls) -> str:
        cls.left -= 1
        if cls.left >= 0:
            raise ValueError
        return "good"


@pytest.mark.parametrize("by", [-HOUR, HOUR])
async def test_a_retry_waits_as_long_as_it_is_to(served: Served, set_clock: Callable[[float], None], by: float) -> None:
    Fails.left = 1
    delay = 0.2 if by < 0 else HOUR / 2
    future = served.client.submit(Fails.until_good, retries=Retry(3, delay=delay, jitter=0), pure=False)
    await async_poll_for(lambda: len(served.scheduler.state.delays) == 1, period=0.01)
    set_clock(by)
    if by < 0:
        assert await future == "good"
        return
    served.scheduler.state.on_retries_due(clock.now())  # as any other event: it is not due
    assert await served.client.submit(sum, [1, 2]) == 3
    assert future.status == "pending"


@pytest.mark.parametrize("by", [-HOUR, HOUR])
async def test_no_worker_is_taken_for_silent(served: Served, set_clock: Callable[[float], None], by: float) -> None:
    served.scheduler.idle_timeout = HOUR / 2
    served.scheduler.check_idle()
    assert served.scheduler.check_idle() is not None
    set_clock(by)
    await served.scheduler.check_worker_ttl()
    assert set(served.scheduler.workers) == {served.worker.address}
    assert served.scheduler.check_idle() is not None
    assert served.scheduler.status.name == "running"


@pytest.mark.parametrize("by", [-HOUR, HOUR])
async def test_a_run_takes_as_long_as_it_takes(served: Served, set_clock: Callable[[float], None], by: float) -> None:
    def run(name: str) -> None:
        Event(name).wait()

    future = served.client.submit(run, "gate", key="run-0", pure=False)
    await async_poll_for(lambda: bool(served.worker.active_threads), period=0.01)
    set_clock(by)
    assert all(0 <= seconds < HOUR / 2 for seconds in served.worker.task_executor.executing(time.monotonic()).values())
    await Event("gate", client=served.client).set()
    await future
    group = served.scheduler.tasks[future.key].group
    assert 0 < group.duration < HOUR / 2
    assert 0 < group.prefix.duration_average < HOUR / 2
    assert abs(group.stop - time.time()) < HOUR / 2


async def test_what_is_shown_is_the_time_of_day(served: Served, set_clock: Callable[[float], None]) -> None:
    before = served.client.submit(abs, -1)
    await before
    set_clock(HOUR)
    await async_poll_for(lambda: served.scheduler.state.shift > HOUR / 2)
    after = served.client.submit(abs, -2)
    await after
    times = [transition[-1] for transition in served.scheduler.story(before.key)]
    later = [transition[-1] for transition in served.scheduler.story(after.key)]
    assert all(abs(when - _real()) < HOUR / 2 for when in times)
    assert all(abs(when - time.time()) < HOUR / 2 for when in later)
    served.worker.session.heartbeat()
    worker = served.scheduler.workers[served.worker.address]
    await async_poll_for(lambda: abs(worker.last_seen - time.time()) < HOUR / 2)
    await async_poll_for(lambda: abs(worker.time_delay) < HOUR / 2)  # once a heartbeat has come since


async def test_a_task_without_workers_is_given_its_time(set_clock: Callable[[float], None]) -> None:
    with new_config({"distributed.scheduler.no-workers-timeout": "1h"}):
        scheduler = Scheduler(host="127.0.0.1", port=0, validate=True)
    async with asyncio.timeout(30), scheduler, Client(scheduler.address, asynchronous=True) as client:
        future = client.submit(sum, [1, 2])
        await async_poll_for(lambda: bool(scheduler.state.unrunnable))
        set_clock(2 * HOUR)
        scheduler.parts.lifecycle._check_unrunnable()
        assert future.status == "pending"


def test_the_clock_is_in_step_until_somebody_sets_it(set_clock: Callable[[float], None]) -> None:
    assert abs(clock.now() - time.time()) < 60
    assert abs(clock.shift()) < 60
    set_clock(-HOUR)
    assert abs(clock.now() - _real()) < 60
    assert abs(clock.shift() + HOUR) < 60
