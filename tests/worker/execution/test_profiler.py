"""The statistical profile of tasks that run on real workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

from headrace import Client, Scheduler, Worker
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for, poll_for

FAST = {"distributed.worker.profile.interval": "1 ms", "distributed.worker.profile.cycle": "20 ms"}


def spin(seconds: float = 0.1) -> None:
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        inner()


def inner() -> None:
    time.sleep(0.001)


def deep(depth: int) -> None:
    if depth:
        deep(depth - 1)
    else:
        spin()


def names(state: dict[str, Any]) -> set[str]:
    found = {state["description"]["name"]}
    return found.union(*[names(child) for child in state["children"].values()])


def starts(state: dict[str, Any]) -> set[str]:
    return {child["description"]["name"] for child in state["children"].values()}


@pytest.fixture(params=[True, False], ids=["processes", "threads"])
def client(request: Any) -> Iterator[Client]:
    with dask.config.set(FAST), Client(n_workers=2, threads_per_worker=1, processes=request.param) as connected:
        yield connected


@pytest.mark.slow
def test_client_profile(client: Client, tmp_path: Path) -> None:
    client.gather([client.submit(spin, pure=False) for _ in range(4)])
    profile = client.profile()
    assert profile["count"] > 0
    assert "spin" in starts(profile), "what calls tasks is left out"
    assert {"spin", "inner"} < names(profile)
    assert client.profile(key="spin")["count"] == profile["count"]
    assert client.profile(key="nobody")["count"] == 0
    separate = client.profile(merge_workers=False)
    assert sorted(separate) == sorted(client.scheduler_info()["workers"])
    assert sum(each["count"] for each in separate.values()) == profile["count"]
    one = next(iter(separate))
    assert client.profile(workers=[one])["count"] == separate[one]["count"]
    page = tmp_path / "profile.html"
    assert client.profile(filename=str(page)) == profile
    assert "spin" in page.read_text()


@pytest.mark.slow
def test_spans_of_time(client: Client) -> None:
    client.submit(spin).result()
    now = time.time()
    assert client.profile(start=now + 3600, stop=now + 7200)["count"] == 0
    assert client.profile(start="1 hour")["count"] > 0
    assert client.profile(stop="1 hour")["count"] == 0


@pytest.mark.slow
def test_recursion_deeper_than_messages_are(client: Client) -> None:
    client.submit(deep, 400).result()
    assert "deep" in names(client.profile())


def test_bad_questions(client: Client) -> None:
    with pytest.raises(ValueError, match="merge_workers"):
        client.profile(merge_workers=False, filename="x.html")


def test_event_loops_are_watched_from_the_first_question_on(client: Client) -> None:
    poll_for(lambda: client.profile(scheduler=True)["count"] > 0)
    poll_for(lambda: client.profile(server=True)["count"] > 0)


@gen_cluster(nthreads=[("127.0.0.1", 2)], client=True, config=FAST)
async def test_history_keys_and_metadata(c: Client, s: Scheduler, w: Worker) -> None:
    await c.gather([c.submit(spin, key="spin-1"), c.submit(spin, 0.1, key="other-1")])
    await async_poll_for(lambda: len(w.profile_history) > 1 and not w.profile_keys, 15)
    times = [when for when, _ in w.profile_history]
    assert times == sorted(times)
    prefixes = {prefix for _, profiles in w.profile_keys_history for prefix in profiles}
    assert prefixes == {"spin", "other"}
    assert (await w.get_profile(key="spin"))["count"] < (await w.get_profile())["count"]
    assert w.profile_recent["count"] == 0
    metadata = await s.get_profile_metadata()
    total = (await s.get_profile())["count"]
    assert sum(count for _, count in metadata["counts"]) == total
    assert set(metadata["keys"]) == {"spin", "other"}
    (whole,) = (await s.get_profile_metadata(profile_cycle_interval=10**6))["counts"]
    assert whole[1] == total


HELD, RELEASE = threading.Event(), threading.Event()


def hold() -> None:
    HELD.set()
    assert RELEASE.wait(30)


@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True, config={"distributed.worker.profile.interval": "1 hour"})
async def test_trigger_profile_takes_one_sample(c: Client, s: Scheduler, w: Worker) -> None:
    HELD.clear()
    RELEASE.clear()
    w.trigger_profile()
    assert w.profile_recent["count"] == 0
    future = c.submit(hold, key="hold-1")
    await async_poll_for(HELD.is_set, 15)
    w.trigger_profile()
    w.trigger_profile()
    assert w.profile_recent["count"] == 2
    assert w.profile_keys["hold"]["count"] == 2
    w.cycle_profile()
    assert w.profile_recent["count"] == 0
    assert [profile["count"] for _, profile in w.profile_history] == [2]
    RELEASE.set()
    await future
    w.trigger_profile()
    assert w.profile_recent["count"] == 0, "a thread that waits for work is not counted"


@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True, config=FAST)
async def test_it_sleeps_while_nothing_runs_and_wakes_for_work(c: Client, s: Scheduler, w: Worker) -> None:
    executor = w.task_executor
    for count in range(3):
        await async_poll_for(lambda: executor.on_work is not None, 15)
        before = (await w.get_profile())["count"]
        await c.submit(spin, pure=False, key=f"spin-{count}")
        assert (await w.get_profile())["count"] > before


@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True, config={"distributed.worker.profile.enabled": False})
async def test_off(c: Client, s: Scheduler, w: Worker) -> None:
    await c.submit(spin)
    w.trigger_profile()
    w.cycle_profile()
    assert (await w.get_profile())["count"] == 0
    assert (await w.get_profile(server=True))["count"] == 0
    assert await w.get_profile_metadata() == {"counts": [], "keys": {}}
    assert len(w.profile_history) == len(w.profile_keys_history) == 0
    assert "headrace-profiler" not in {thread.name for thread in threading.enumerate()}


@gen_cluster(
    nthreads=[("127.0.0.1", 1)],
    client=True,
    config={"distributed.worker.profile.interval": "1 ms", "distributed.worker.profile.cycle": "1 hour"},
    worker_kwargs={"profile_cycle_interval": "5 ms"},
)
async def test_cycle_of_one_worker(c: Client, s: Scheduler, w: Worker) -> None:
    await c.submit(spin)
    await async_poll_for(lambda: len(w.profile_history) > 0, 15)
