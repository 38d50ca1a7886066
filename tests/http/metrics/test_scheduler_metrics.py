"""Values of a scheduler's metrics, as things happen."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from dask.distributed import Client, Nanny, Scheduler, Semaphore, Worker

from headrace.http.metrics import SchedulerMetrics
from headrace.http.metrics.task_families import MOST_DEMANDS
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.gate import Gate, hold
from tests.http.metrics.scraped import Scraped


def scrape(metrics: SchedulerMetrics) -> Scraped:
    return Scraped(metrics.text())


def inc(x: int) -> int:
    return x + 1


@gen_cluster(client=True)
async def test_totals_of_a_prefix_keep_what_forgotten_tasks_added(
    c: Client, s: Scheduler, a: Worker, b: Worker
) -> None:
    metrics = SchedulerMetrics(s)
    futures = c.map(inc, range(10))
    await c.gather(futures)
    before = scrape(metrics)
    assert before.value("dask_scheduler_tasks", state="memory") == 10
    assert before.value("dask_scheduler_tasks_output_bytes", task_prefix_name="inc") > 0
    assert before.value("dask_scheduler_tasks_forgotten_total") == 0
    del futures
    await async_poll_for(lambda: not s.tasks, 10)
    after = scrape(metrics)
    assert after.value("dask_scheduler_tasks", state="memory") == 0
    assert after.value("dask_scheduler_task_groups") == 0
    assert after.value("dask_scheduler_tasks_output_bytes", task_prefix_name="inc") == 0
    assert after.value("dask_scheduler_tasks_forgotten_total") == 10
    for name in ("dask_scheduler_tasks_compute_seconds_total", "dask_scheduler_tasks_transfer_seconds_total"):
        assert after.value(name, task_prefix_name="inc") == before.value(name, task_prefix_name="inc")
    state = {"task_prefix_name": "inc", "state": "memory"}
    assert after.value("dask_scheduler_prefix_state_totals_total", **state) == 10
    counters = [key for key in before.samples if before.kinds.get(key[0]) == "counter"]
    assert counters
    assert [key for key in counters if after.samples[key] < before.samples[key]] == []


@gen_cluster(nthreads=[])
async def test_workers_and_clients_that_come_and_go(s: Scheduler) -> None:
    metrics = SchedulerMetrics(s)
    async with Worker(s.address, nthreads=2), Client(s.address, asynchronous=True):
        here = scrape(metrics)
        assert here.value("dask_scheduler_workers", state="idle") == 1
        assert here.value("dask_scheduler_threads") == 2
        assert here.value("dask_scheduler_clients") == 1
        assert here.value("dask_scheduler_memory_bytes", type="limit") > 0
    await async_poll_for(lambda: not s.clients, 10)
    gone = scrape(metrics)
    for what in ("workers", "client_connections"):
        assert gone.value(f"dask_scheduler_{what}_added_total") == 1
        assert gone.value(f"dask_scheduler_{what}_removed_total") == 1
    assert gone.value("dask_scheduler_workers_lost_total") == 0
    assert gone.value("dask_scheduler_threads") == 0
    seconds = gone.value("dask_scheduler_thread_seconds_total")
    assert seconds > here.value("dask_scheduler_thread_seconds_total")
    assert scrape(metrics).value("dask_scheduler_thread_seconds_total") == seconds


@pytest.mark.slow
@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], Worker=Nanny)
async def test_a_worker_that_dies_is_lost_and_what_it_had_is_computed_again(c: Client, s: Scheduler, a: Nanny) -> None:
    metrics = SchedulerMetrics(s)
    future = c.submit(inc, 1)
    await future
    killer = c.submit(os._exit, 3, pure=False)
    await async_poll_for(lambda: s.shell.core.tallies.workers_lost >= 1, 30)
    del killer
    await async_poll_for(lambda: s.tasks[future.key].group.recomputed == 1, 30)
    scraped = scrape(metrics)
    assert scraped.value("dask_scheduler_tasks_recomputed_total", task_prefix_name="inc") == 1
    assert scraped.value("dask_scheduler_workers_lost_total") == scraped.value("dask_scheduler_workers_removed_total")


@gen_cluster(client=True, nthreads=[("", 1)], worker_kwargs={"heartbeat_interval": "10ms"})
async def test_running_tasks_count_as_busy(c: Client, s: Scheduler, a: Worker) -> None:
    metrics = SchedulerMetrics(s)
    Gate.close()
    future = c.submit(hold, key="held-1")
    try:
        await async_poll_for(lambda: bool(s.workers[a.address].executing), 10)
        running = scrape(metrics)
    finally:
        Gate.opened.set()
    assert running.value("dask_scheduler_tasks_running_seconds", task_prefix_name="held") > 0
    busy = running.value("dask_scheduler_busy_thread_seconds_total")
    assert busy > 0
    assert running.value("dask_scheduler_tasks_compute_seconds_total", task_prefix_name="held") == 0
    await future
    assert scrape(metrics).value("dask_scheduler_busy_thread_seconds_total") >= busy


@gen_cluster(client=True, nthreads=[("", 1)])
async def test_what_tasks_without_a_worker_ask_for(c: Client, s: Scheduler, a: Worker) -> None:
    metrics = SchedulerMetrics(s)
    wanted = [
        c.submit(inc, 1, resources={"GPU": 1}, pure=False),
        c.submit(inc, 2, resources={"GPU": 1}, pure=False),
        c.submit(inc, 3, resources={"GPU": 0.5, "licence": 2}, workers=["elsewhere"], pure=False),
    ]
    await async_poll_for(lambda: len(s.shell.core.unrunnable) == 3, 10)
    scraped = scrape(metrics)
    assert scraped.value("dask_scheduler_tasks", state="no-worker") == 3
    assert scraped.value("dask_scheduler_unrunnable_tasks", wants="GPU=1") == 2
    assert scraped.value("dask_scheduler_unrunnable_tasks", wants="GPU=0.5, licence=2, worker elsewhere") == 1
    assert scraped.value("dask_scheduler_unrunnable_seconds", wants="GPU=1") >= 0
    many = [c.submit(inc, n, resources={f"r{n}": 1}, pure=False) for n in range(2 * MOST_DEMANDS)]
    await async_poll_for(lambda: len(s.shell.core.unrunnable) == 3 + len(many), 10)
    rows = scrape(metrics).rows("dask_scheduler_unrunnable_tasks")
    assert len(rows) == MOST_DEMANDS + 1
    del wanted


@gen_cluster(client=True, nthreads=[("", 1)])
async def test_semaphores(c: Client, s: Scheduler, a: Worker) -> None:
    metrics = SchedulerMetrics(s)
    semaphore = await Semaphore(name="s", max_leases=1)
    assert await semaphore.acquire()
    waiting = asyncio.ensure_future(Semaphore(name="s", max_leases=1).acquire())
    await async_poll_for(lambda: bool(s.shell.extensions["semaphores"].core.by_name["s"].line), 10)

    def values() -> dict[str, float]:
        scraped = scrape(metrics)
        names = ("max_leases", "active_leases", "pending_leases", "acquire_total", "release_total")
        return {name: scraped.value(f"dask_semaphore_{name}", name="s") for name in names}

    assert list(values().values()) == [1, 1, 1, 1, 0]
    await semaphore.release()
    assert await waiting
    assert list(values().values()) == [1, 1, 0, 2, 1]
    assert scrape(metrics).value("dask_semaphore_average_pending_lease_time_s", name="s") > 0


@gen_cluster(client=True)
async def test_handled_requests_and_messages(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    metrics = SchedulerMetrics(s)
    await c.scheduler.identity()
    await c.gather(c.map(inc, range(10)))
    scraped = scrape(metrics)
    assert scraped.value("dask_scheduler_rpc_requests_total", operation="identity") >= 1
    assert scraped.value("dask_scheduler_rpc_seconds_total", operation="identity") > 0
    assert scraped.value("dask_scheduler_stream_messages_total", sender="worker") >= 10
    assert scraped.value("dask_scheduler_stream_messages_total", sender="client") >= 1
    assert scraped.value("dask_scheduler_stream_seconds_total", sender="client") > 0
    assert scraped.value("dask_scheduler_transitions_total") >= 30


@gen_cluster(client=True)
async def test_stealing(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    """Tasks that are asked back are counted by what it costs to move them."""
    metrics = SchedulerMetrics(s)
    Gate.close()
    held = c.map(hold, range(20), workers=[a.address], allow_other_workers=True)
    try:
        await async_poll_for(lambda: sum(s.shell.core.steals.asked.values()) > 0, 20)
        scraped = scrape(metrics)
    finally:
        Gate.opened.set()
    rows = scraped.rows("dask_stealing_request_count_total")
    assert sum(scraped.value("dask_stealing_request_count_total", **row) for row in rows) > 0
    assert sum(scraped.value("dask_stealing_request_cost_total", **row) for row in rows) > 0
    await c.gather(held)


@gen_cluster()
async def test_workers_through_the_scheduler(s: Scheduler, a: Worker, b: Worker) -> None:
    metrics = SchedulerMetrics(s)
    scraped = Scraped(await metrics.text_with_workers())
    assert scraped.value("dask_scheduler_workers_not_scraped") == 0
    assert {row["worker"] for row in scraped.rows("dask_worker_threads")} == {a.address, b.address}
    assert scraped.kinds["dask_worker_transfer_incoming_count"] == "gauge"
    assert scraped.kinds["dask_worker_transfer_incoming_count_total"] == "counter"
    assert scraped.value("process_max_fds") == scraped.value("process_max_fds", worker=a.address)


@gen_cluster()
async def test_workers_that_fail_or_are_late_are_left_out(s: Scheduler, a: Worker, b: Worker) -> None:
    never = asyncio.Event()

    async def silent() -> Any:
        await never.wait()

    a.server.handlers["plain_metrics"] = silent
    scraped = Scraped(await SchedulerMetrics(s).text_with_workers(timeout=0.5))
    assert scraped.value("dask_scheduler_workers_not_scraped") == 1
    assert {row["worker"] for row in scraped.rows("dask_worker_threads")} == {b.address}
    never.set()
    nonsense: list[Any] = ["nonsense", [1], [["x", "gauge", "X", [["x", {"a": None}, 1.0]]]]]
    nonsense += [[["x", "gauge", "X", [["x", {}, "one"]]]], [["x", "bogus", "X", []]], [["x", "gauge", None, [3]]]]
    for answer in nonsense:
        b.server.handlers["plain_metrics"] = lambda told=answer: told
        scraped = Scraped(await SchedulerMetrics(s).text_with_workers())
        assert {row["worker"] for row in scraped.rows("dask_worker_threads")} <= {a.address}
        assert scraped.value("dask_scheduler_workers_not_scraped") >= 1


@gen_cluster()
async def test_who_leaves_while_workers_are_asked_leaves_nothing_behind(s: Scheduler, a: Worker, b: Worker) -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def silent() -> Any:
        asked.set()
        await never.wait()

    a.server.handlers["plain_metrics"] = silent
    before = asyncio.all_tasks()
    asking = asyncio.ensure_future(SchedulerMetrics(s).text_with_workers(timeout=600))
    await asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    names = {getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks() - before}
    assert not [name for name in names if "ask_workers" in name]
    never.set()


def test_labels_of_users_that_are_called_worker_are_kept() -> None:
    from headrace.http.metrics.workers_together import join

    answers = {
        "tcp://w:1": [
            ["mine", "gauge", "Mine", [["mine", {"worker": "me"}, 1.0]]],
            ["other", "gauge", "Of another type", [["other", {}, 1.0]]],
        ]
    }
    own = [["other", "counter", "Of the scheduler", []]]
    joined = {name: samples for name, _, _, samples in join(own, answers)}
    assert joined["mine"] == [("mine", {"worker": "tcp://w:1", "exported_worker": "me"}, 1.0)]
