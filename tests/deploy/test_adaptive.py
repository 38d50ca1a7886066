"""`cluster.adapt`: workers come when there is work and go when there is none, and nothing is lost with them."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from headrace import Adaptive, Client, LocalCluster, SpecCluster, Worker
from headrace.common.status import Status
from headrace.testing.helpers.polling import async_poll_for, poll_for

FAST = {"interval": "20ms", "wait_count": 2}
gate = threading.Event()


def inc(x: int) -> int:
    return x + 1


def wait_at_gate(x: int) -> int:
    assert gate.wait(30)
    return x


@pytest.fixture(autouse=True)
def closed_gate() -> Iterator[None]:
    gate.clear()
    yield
    gate.set()


def local(n_workers: int = 0, **kwargs: Any) -> LocalCluster:
    return LocalCluster(n_workers=n_workers, threads_per_worker=1, processes=False, dashboard_address=None, **kwargs)


async def test_from_none_up_to_the_maximum_and_back() -> None:
    async with local(asynchronous=True) as cluster, Client(cluster, asynchronous=True) as client:
        adaptive = cluster.adapt(minimum=0, maximum=3, target_duration="10ms", **FAST)
        futures = client.map(wait_at_gate, range(20))
        await async_poll_for(lambda: len(cluster.observed) == 3, 20)
        gate.set()
        assert await client.gather(futures) == list(range(20))
        del futures
        await async_poll_for(lambda: not cluster.observed and not cluster.plan, 20)
        assert {record["status"] for _, record in adaptive.log} == {"up", "down"}
        assert await client.submit(inc, 1) == 2  # and again from none


def test_the_minimum_is_there_at_once_and_stays() -> None:
    with local() as cluster:
        adaptive = cluster.adapt(minimum=2, **FAST)
        cluster.wait_for_workers(2, timeout=20)
        with Client(cluster) as client:
            assert client.submit(inc, 1).result() == 2
        cluster.sync(adaptive.adapt)
        cluster.sync(adaptive.adapt)
        cluster.sync(adaptive.adapt)
        assert len(cluster.observed) == 2


async def test_results_survive_the_closing_of_their_workers() -> None:
    async with local(4, asynchronous=True) as cluster, Client(cluster, asynchronous=True) as client:
        await client.wait_for_workers(4)
        scattered = await client.scatter(list(range(40)), broadcast=False)
        computed = client.map(inc, range(40))
        await client.gather(computed)
        cluster.adapt(minimum=1, maximum=4, memory_ratio=1, **FAST)
        await async_poll_for(lambda: len(cluster.observed) == 1, 20)
        assert await client.gather(scattered) == list(range(40))
        assert await client.gather(computed) == list(range(1, 41))
        transitions = [record for record in cluster.scheduler.transition_log if record[1:3] == ("memory", "released")]
        assert not transitions


async def test_the_last_worker_stays_while_it_holds_the_only_copy() -> None:
    async with local(1, asynchronous=True) as cluster, Client(cluster, asynchronous=True) as client:
        future = await client.scatter(123)
        adaptive = Adaptive(cluster, minimum=0, interval=0)
        await adaptive.scale_down(set(cluster.plan))
        assert cluster.observed == cluster.plan
        assert len(cluster.plan) == 1
        assert await future == 123


def test_workers_in_processes() -> None:
    with LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        cluster.adapt(minimum=0, maximum=2, **FAST)
        assert client.gather(client.map(inc, range(50))) == list(range(1, 51))
        poll_for(lambda: not cluster.workers and not cluster.observed, 20)
        assert client.submit(inc, 1).result() == 2


async def test_scaling_by_hand_while_adapting_is_remarked_on(caplog: pytest.LogCaptureFixture) -> None:
    async with local(asynchronous=True) as cluster:
        adaptive = cluster.adapt(minimum=1, **FAST)
        await async_poll_for(lambda: len(cluster.observed) == 1, 20)
        assert "by hand" not in caplog.text
        await cluster.scale(2)
        assert "was scaled by hand while it adapts" in caplog.text
        caplog.clear()
        adaptive.stop()
        await cluster.scale(1)
        assert "by hand" not in caplog.text


def test_earlier_options_stand_and_only_the_last_decides() -> None:
    with local() as cluster:
        first = cluster.adapt(minimum=1, **FAST)
        second = cluster.adapt(maximum=4, interval="1s")
        assert first.state == "stopped"
        assert (second.wait_count, second.interval) == (2, 1.0)
    assert second.state == "stopped"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimum": 3, "maximum": 1}, "must not be less"),
        ({"minimum_cores": 4, "maximum_cores": 2}, "must not be less"),
        ({"target_duration": 0}, "must be positive"),
    ],
)
def test_options_that_make_no_sense_are_refused_and_change_nothing(options: dict[str, Any], message: str) -> None:
    with local() as cluster:
        before = cluster.adapt(maximum=2)
        with pytest.raises(ValueError, match=message):
            cluster.adapt(**options)
        assert before.state != "stopped"


def test_bounds_in_cores_and_memory() -> None:
    with LocalCluster(
        n_workers=0, threads_per_worker=2, processes=False, memory_limit="100 MB", dashboard_address=None
    ) as cluster:
        adaptive = cluster.adapt(minimum_cores=3, maximum_memory="450 MB", interval="1h")
        assert (adaptive.minimum, adaptive.maximum) == (2, 4)
        adaptive = cluster.adapt(minimum_memory="250 MB", maximum_cores=9, interval="1h")
        assert (adaptive.minimum, adaptive.maximum) == (3, 4)


def test_defaults_come_from_the_configuration() -> None:
    import dask

    with (
        dask.config.set(
            {
                "distributed.adaptive.minimum": 2,
                "distributed.adaptive.maximum": 7,
                "distributed.adaptive.wait-count": 9,
                "distributed.adaptive.interval": "1h",
                "distributed.adaptive.target-duration": "3s",
            }
        ),
        SpecCluster(worker={"cls": Worker, "options": {"host": "127.0.0.1"}}, scheduler=None) as cluster,
    ):
        adaptive = Adaptive(cluster)
        assert (adaptive.minimum, adaptive.maximum, adaptive.wait_count) == (2, 7, 9)
        assert (adaptive.interval, adaptive.target_duration) == (3600.0, 3.0)
        adaptive.stop()


async def test_a_lost_worker_is_replaced() -> None:
    import dask

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "10ms"}):
        async with local(2, asynchronous=True, scheduler_sync_interval="10ms") as cluster:
            cluster.adapt(minimum=2, maximum=2, **FAST)
            await async_poll_for(lambda: cluster._seen == {0, 1}, 20)
            before = cluster.workers[0]
            await before.close()
            await async_poll_for(lambda: cluster.workers.get(0) not in (None, before), 20)
            await async_poll_for(lambda: cluster.observed == {0, 1}, 20)


async def test_the_target_follows_the_work_and_the_memory() -> None:
    async with local(2, asynchronous=True) as cluster, Client(cluster, asynchronous=True) as client:
        scheduler = cluster.scheduler
        futures = client.map(wait_at_gate, range(100))
        await async_poll_for(lambda: len(scheduler.tasks) == 100, 20)
        assert scheduler.adaptive_target(target_duration="1s") >= 30
        assert scheduler.adaptive_target(target_duration=0.001) <= 100  # no more workers than tasks
        assert scheduler.adaptive_target(target_duration=math.inf) >= 2
        gate.set()
        await asyncio.gather(*futures)


async def test_it_ends_when_the_cluster_is_said_to_close() -> None:
    async with local(asynchronous=True) as cluster:
        adaptive = Adaptive(cluster, **FAST)
        await async_poll_for(lambda: adaptive.state == "running", 10)
        cluster.status = Status.closing
        await async_poll_for(lambda: adaptive.state == "stopped", 10)
        cluster.status = Status.running


def test_a_class_of_the_users_own() -> None:
    class Mine(Adaptive):
        async def target(self) -> int:
            return 3

    with local() as cluster:
        assert isinstance(cluster.adapt(Mine, **FAST), Mine)
        poll_for(lambda: len(cluster.observed) == 3, 20)
