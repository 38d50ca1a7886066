"""Documented attributes of a running scheduler and of its records: read, and set by plugins and functions."""

from __future__ import annotations

import math
import os
import time
from typing import Any

import pytest

from headrace import Client, Event, KilledWorker, Nanny, Scheduler, Worker, wait
from headrace.compat import scheduler as public
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for


def inc(x: int) -> int:
    return x + 1


def until_set(number: int) -> int:
    Event("go").wait()
    return number


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_what_is_read(c: Client, s: Scheduler, a: Worker) -> None:
    assert 0 < s.time_started <= time.time()
    assert os.path.isdir(s.local_directory)
    assert s.local_directory == s.local_directory
    assert await c.submit(inc, 1) == 2
    assert s.generation >= 1
    assert s.proc.pid == os.getpid()
    assert s.jupyter is False
    assert public.logger.name == "distributed.scheduler"  # type: ignore[attr-defined]
    assert "no-worker" in public.ALL_TASK_STATES  # type: ignore[attr-defined]
    assert public.DEFAULT_EXTENSIONS.keys() <= s.extensions.keys()  # type: ignore[attr-defined]


@gen_cluster(nthreads=[])
async def test_the_default_extensions_and_another(s: Scheduler) -> None:
    class Mine:
        def __init__(self, scheduler: Scheduler) -> None:
            self.scheduler = scheduler

    extensions = {**public.DEFAULT_EXTENSIONS, "mine": Mine}  # type: ignore[attr-defined]
    async with Scheduler(host="127.0.0.1", port=0, extensions=extensions) as scheduler:
        assert scheduler.extensions["mine"].scheduler is scheduler
        async with Worker(scheduler.address), Client(scheduler.address, asynchronous=True) as client:
            assert await client.submit(inc, 1) == 2
            await client.publish_dataset(x=1)
            assert await client.get_dataset("x") == 1


@gen_cluster(client=True, nthreads=[("127.0.0.1", 2)])
async def test_saturation_is_set(c: Client, s: Scheduler, a: Worker) -> None:
    futures = c.map(until_set, range(100))
    await async_poll_for(lambda: s.workers[a.address].processing and len(s.tasks) >= 100, timeout=10)
    before = len(s.queued)
    assert before > 0
    s.WORKER_SATURATION = math.inf
    assert math.isinf(s.WORKER_SATURATION)
    assert len(s.queued) == 0
    assert len(s.workers[a.address].processing) == 100
    await Event("go").set()
    assert await c.gather(futures) == list(range(100))


@gen_cluster(client=True, nthreads=[])
async def test_allowed_failures_are_set(c: Client, s: Scheduler) -> None:
    s.allowed_failures = 0
    assert s.allowed_failures == 0
    async with Nanny(s.address, nthreads=1):
        with pytest.raises(KilledWorker):
            await c.submit(os._exit, 1)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_other_settings_are_set(c: Client, s: Scheduler, a: Worker) -> None:
    s.bandwidth = 1e7
    s.validate = False
    s.UNKNOWN_TASK_DURATION = 7
    assert (s.bandwidth, s.validate, s.UNKNOWN_TASK_DURATION) == (1e7, False, 7.0)
    future = c.submit(until_set, 1, key="until-set")
    await async_poll_for(lambda: s.workers[a.address].processing, timeout=10)
    assert s.workers[a.address].occupancy == 7
    await Event("go").set()
    assert await future == 1


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)] * 2)
async def test_restrictions_are_set_on_a_record(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    blocker = c.submit(until_set, 0, key="blocker")
    futures = [c.submit(inc, blocker, key=f"after-{number}", pure=False) for number in range(4)]
    await async_poll_for(lambda: len(s.tasks) == 5, timeout=10)
    for number in range(4):
        s.tasks[f"after-{number}"].worker_restrictions = {b.address}
    assert s.tasks["after-0"].worker_restrictions == {b.address}
    await Event("go").set()
    await wait(futures)
    assert all(f"after-{number}" in b.data for number in range(4))


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_attributes_of_a_record_are_set(c: Client, s: Scheduler, a: Worker) -> None:
    future = c.submit(inc, 1, key="x")
    await future
    task: Any = s.tasks["x"]
    values: dict[str, Any] = {
        "retries": 2,
        "suspicious": 1,
        "worker_restrictions": {"name"},
        "host_restrictions": {"127.0.0.1"},
        "resource_restrictions": {"GPU": 1},
        "loose_restrictions": True,
        "metadata": {"a": 1},
        "actor": False,
        "erred_on": {"tcp://127.0.0.1:1"},
        "exception_text": "text",
        "traceback_text": "text",
        "exception": b"1",
        "traceback": b"2",
        "exception_blame": task,
        "run_id": 7,
    }
    for name, value in values.items():
        setattr(task, name, value)
    assert {name: getattr(task, name) for name in values} == values
    task.annotations = {"mood": "good"}
    assert task.annotations["mood"] == "good"
    for name in ("worker_restrictions", "host_restrictions", "resource_restrictions", "metadata", "erred_on"):
        setattr(task, name, None)
        assert not getattr(task, name)
    assert task.has_lost_dependencies is False
    task.exception_blame = None
