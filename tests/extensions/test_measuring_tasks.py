"""What tasks measure themselves reaches their spans, and the scheduler."""

from __future__ import annotations

import time
from typing import Any

import pytest

from headrace import Client, span, wait
from headrace.compat.metrics import context_meter
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")

FINE = ("execute", "measured", "I/O", "seconds")


def measured() -> None:
    with context_meter.meter("I/O"):
        time.sleep(0.02)
    context_meter.digest_metric(("disk", "read"), 10, "bytes")
    with context_meter.clear_callbacks():
        context_meter.digest_metric("secret", 1, "count")


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_task_in_a_span(c: Client, s: Any, a: Any) -> None:
    with span("one") as number:
        await c.submit(measured, key="measured-1")
    await c.submit(measured, key="measured-2")
    await a.heartbeat()
    total = s.cumulative_worker_metrics
    await async_poll_for(lambda: total.get(("execute", "measured", ("disk", "read"), "bytes")) == 20, timeout=10)
    extension = s.extensions["spans"]
    (default,) = [each for each in extension.spans.values() if each.name == ("default",)]
    for each in (extension.spans[number], default):
        found = each.cumulative_worker_metrics
        assert found[FINE] >= 0.02
        assert found["execute", "measured", ("disk", "read"), "bytes"] == 10
        assert found["execute", "measured", "thread-noncpu", "seconds"] < each.all_durations["compute"]
        assert not any("secret" in name for name in found)
    assert total[FINE] >= 0.04


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_what_is_measured_is_told_once_a_run_has_ended(c: Client, s: Any, a: Any) -> None:
    def failing() -> None:
        context_meter.digest_metric("wait", 1, "seconds")
        context_meter.digest_metric("read", 10, "bytes")
        raise ValueError("no")

    await wait(c.submit(failing, key="failing-1"))
    await a.heartbeat()
    told = {name: value for name, value in s.cumulative_worker_metrics.items() if name[0] == "execute"}
    assert told.keys() == {("execute", "failing", "read", "bytes"), ("execute", "failing", "failed", "seconds")}


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_coroutine(c: Client, s: Any, a: Any) -> None:
    async def measuring() -> None:
        with context_meter.meter("wait"):
            pass

    with span("one") as number:
        await c.submit(measuring, key="measuring-1")
    await a.heartbeat()
    name = ("execute", "measuring", "wait", "seconds")
    await async_poll_for(lambda: name in s.cumulative_worker_metrics, timeout=10)
    assert name in s.extensions["spans"].spans[number].cumulative_worker_metrics


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_actors_measure_for_themselves(c: Client, s: Any, a: Any) -> None:
    class Measuring:
        def read(self) -> None:
            context_meter.digest_metric("read", 10, "bytes")

    with span("acting") as number:
        actor = await c.submit(Measuring, actor=True, key="actor-1")
    await actor.read()
    await a.heartbeat()
    name = ("execute", "actor", "read", "bytes")
    assert s.cumulative_worker_metrics[name] == 10
    assert s.extensions["spans"].spans[number].cumulative_worker_metrics[name] == 10
