"""Turns of the loop between the parts of a large submission."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace import Client
from headrace.client.api import work
from headrace.client.packing import submission_pace
from headrace.client.packing.calls import CHUNK
from headrace.client.packing.submission_pace import TURNS, Pace
from headrace.rpc import LoopRunner


class StuckLoop:
    """Counts what it is asked to call, and calls nothing."""

    def __init__(self) -> None:
        self.asked = 0

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any) -> None:
        self.asked += 1


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    runner = LoopRunner(asynchronous=False)
    runner.start()
    try:
        yield runner.loop.asyncio_loop
    finally:
        runner.stop()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, the loop has its turns."""
    monkeypatch.setattr(submission_pace, "PATIENCE", 30.0)


def test_what_callbacks_ask_for_is_done_too(patient: None, loop: asyncio.AbstractEventLoop) -> None:
    done: list[int] = []

    def work(left: int) -> None:
        done.append(left)
        if left > 1:
            loop.call_soon(work, left - 1)

    loop.call_soon_threadsafe(work, TURNS)
    Pace(loop, in_process=True).turn()
    assert done == list(range(TURNS, 0, -1))


def test_a_loop_that_is_busy_is_waited_for_once() -> None:
    loop: Any = StuckLoop()
    pace = Pace(loop, in_process=True)
    for _ in range(3):
        pace.turn()
    assert loop.asked == 1


def test_nobody_waits_for_a_scheduler_elsewhere() -> None:
    loop: Any = StuckLoop()
    Pace(loop, in_process=False).turn()
    assert not loop.asked


def test_a_loop_does_not_wait_for_itself() -> None:
    async def turned() -> list[int]:
        loop = asyncio.get_running_loop()
        done: list[int] = []
        loop.call_soon(done.append, 1)
        Pace(loop, in_process=True).turn()
        return list(done)

    assert asyncio.run(turned()) == []


def test_a_closed_loop_is_left_to_who_sends_next() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    Pace(loop, in_process=True).turn()


@pytest.mark.parametrize("batch_size", [None, 100])
def test_a_long_map_takes_turns(patient: None, monkeypatch: pytest.MonkeyPatch, batch_size: int | None) -> None:
    turns: list[int] = []

    class Counted(Pace):
        def turn(self) -> None:
            turns.append(len(client.cluster.scheduler.tasks))
            super().turn()

    monkeypatch.setattr(work, "Pace", Counted)
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as client:
        count = 4 * (batch_size or CHUNK)
        assert client.gather(client.map(abs, range(-count, 0), batch_size=batch_size)) == list(range(count, 0, -1))
    assert len(turns) == 3, "none after the last part"
    assert turns[-1] > 0, "the scheduler had its turn while there were parts to come"
