"""Meters: what is measured deep inside comes to callbacks that were set around it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import pickle
from typing import Any

import pytest

from headrace.compat.metrics import (
    ContextMeter,
    DelayedMetricsLedger,
    MeterOutput,
    context_meter,
    context_meter_to_server_digest,
    meter,
)
from headrace.compat.utils_test.meters import captured_context_meter


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_meter(clock: Clock) -> None:
    with meter(clock) as output:
        assert output.start == 10.0
        assert math.isnan(output.stop)
        clock.now += 2
    assert (output.stop, output.delta) == (12.0, 2.0)
    with meter(clock) as output:
        clock.now -= 1
    assert output.delta == 0.0
    with meter(clock, floor=False) as output:
        clock.now -= 1
    assert output.delta == -1.0
    assert MeterOutput(1, 2, 1) == MeterOutput(1, 2, 1)


def test_parts_add_up(clock: Clock) -> None:
    told: list[Any] = []
    meters = ContextMeter()
    with meters.add_callback(lambda *args: told.append(args)):
        with meters.meter("outer", func=clock):
            clock.now += 1
            with meters.meter("inner", func=clock) as inner:
                clock.now += 3
            meters.digest_metric("bytes", 100, "bytes")
            meters.digest_metric("waiting", 0.5, "seconds")
            clock.now += 2
        with contextlib.suppress(KeyError), meters.meter("fails", func=clock):
            clock.now += 1
            raise KeyError
    assert inner.delta == 3.0
    assert told == [
        ("inner", 3.0, "seconds"),
        ("bytes", 100, "bytes"),
        ("waiting", 0.5, "seconds"),
        ("outer", 2.5, "seconds"),
        ("fails", 1.0, "seconds"),
    ]
    with meters.meter("nobody listens", func=clock) as output:
        clock.now += 1
    assert output.delta == 1.0


def test_keys_and_clearing() -> None:
    told: list[str] = []
    meters = ContextMeter()
    with (
        meters.add_callback(lambda *_: told.append("a"), key="same"),
        meters.add_callback(lambda *_: told.append("b"), key="same"),
        meters.add_callback(lambda *_: told.append("c")),
    ):
        meters.digest_metric("x", 1, "count")
        assert told == ["b", "c"]
        with meters.clear_callbacks():
            meters.digest_metric("x", 1, "count")
        assert told == ["b", "c"]


async def test_a_servers_digests() -> None:
    class Server:
        def __init__(self) -> None:
            self.told: list[Any] = []

        def digest_metric(self, name: Any, value: float) -> None:
            self.told.append((name, value))

        @context_meter_to_server_digest("tag")
        async def work(self, x: int) -> int:
            context_meter.digest_metric("part", 1, "bytes")
            context_meter.digest_metric(("a", "b"), 2, "seconds")
            return x

    server = Server()
    with captured_context_meter() as sums:
        assert await server.work(3) == 3
        context_meter.digest_metric("part", 4, "bytes")
    assert server.told == [(("tag", "part", "bytes"), 1), (("tag", "a", "b", "seconds"), 2)]
    assert sums == {("part", "bytes"): 5, ("a", "b", "seconds"): 2}


def test_the_shared_one_stays_itself() -> None:
    assert pickle.loads(pickle.dumps(context_meter)) is context_meter


async def test_from_other_threads() -> None:
    told: list[Any] = []
    with context_meter.add_callback(lambda *args: told.append(args), allow_offload=True):
        await asyncio.to_thread(context_meter.digest_metric, "in a thread", 1, "count")
        await asyncio.sleep(0)
    assert told == [("in a thread", 1, "count")]


@pytest.mark.parametrize("coarse", [False, "failed"])
def test_ledger(clock: Clock, coarse: Any) -> None:
    ledger = DelayedMetricsLedger(func=clock)
    with ledger.record():
        clock.now += 1
        context_meter.digest_metric("part", 1.0, "seconds")
        context_meter.digest_metric("size", 5, "bytes")
    clock.now += 2
    found = list(ledger.finalize(coarse))
    if coarse:
        assert found == [("size", 5, "bytes"), ("failed", 3.0, "seconds")]
    else:
        assert found == [("part", 1.0, "seconds"), ("size", 5, "bytes"), ("other", 2.0, "seconds")]
