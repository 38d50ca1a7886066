"""Values of a worker's metrics, as things happen."""

from __future__ import annotations

from typing import Any

from dask.distributed import Client, Scheduler, Worker

from headrace.common.status import Status
from headrace.http.metrics import WorkerMetrics
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.gate import Gate, hold
from tests.http.metrics.scraped import Scraped


def scrape(metrics: WorkerMetrics) -> Scraped:
    return Scraped(metrics.text())


def fail() -> None:
    raise ValueError("on purpose")


def bytes_of(count: int) -> bytes:
    return bytes(count)


@gen_cluster(client=True, nthreads=[("", 2)])
async def test_runs_and_their_time(c: Client, s: Scheduler, a: Worker) -> None:
    metrics = WorkerMetrics(a)
    assert await c.submit(len, "ab") == 2
    failed = c.submit(fail)
    await failed.exception()
    before = scrape(metrics)
    assert before.value("dask_worker_tasks_executed_total") == 1
    assert before.value("dask_worker_tasks_failed_total") == 1
    assert before.value("dask_worker_threads") == 2
    Gate.close()
    held = c.submit(hold)
    try:
        await async_poll_for(Gate.entered.is_set, 10)
        running = scrape(metrics)
        assert running.value("dask_worker_tasks", state="executing") == 1
        seconds = running.value("dask_worker_compute_seconds_total")
        assert seconds > before.value("dask_worker_compute_seconds_total")
        assert scrape(metrics).value("dask_worker_compute_seconds_total") > seconds
        threads = running.value("dask_worker_thread_seconds_total")
        assert threads > before.value("dask_worker_thread_seconds_total")
    finally:
        Gate.opened.set()
    await held
    assert scrape(metrics).value("dask_worker_compute_seconds_total") >= seconds


@gen_cluster(client=True)
async def test_transfers(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    there = c.submit(bytes_of, 10_000, workers=[a.address])
    here = c.submit(len, there, workers=[b.address])
    assert await here == 10_000
    sender, receiver = scrape(WorkerMetrics(a)), scrape(WorkerMetrics(b))
    assert sender.value("dask_worker_transfer_outgoing_count_total") == 1
    assert sender.value("dask_worker_transfer_outgoing_bytes_total") >= 10_000
    assert receiver.value("dask_worker_transfer_incoming_count_total") == 1
    assert receiver.value("dask_worker_transfer_incoming_bytes_total") >= 10_000
    for scraped, way in ((sender, "outgoing"), (receiver, "incoming")):
        assert scraped.value(f"dask_worker_transfer_{way}_count") == 0
        assert scraped.value(f"dask_worker_transfer_{way}_bytes") == 0


@gen_cluster(client=True, nthreads=[("", 1)], worker_kwargs={"memory_limit": "64 MB"})
async def test_spilled_results(c: Client, s: Scheduler, a: Worker) -> None:
    metrics = WorkerMetrics(a)
    buffer: Any = a.data
    a.memory_manager.memory_pause_fraction = False
    futures = c.map(bytes_of, range(3_000_000, 3_000_020))
    await c.gather([c.submit(len, future) for future in futures])
    buffer.press(True)
    await async_poll_for(lambda: buffer.disk_count == 20, 20)
    scraped = scrape(metrics)
    assert scraped.value("dask_worker_tasks", state="disk") == 20
    assert scraped.value("dask_worker_memory_bytes", type="spilled") > 0
    assert scraped.value("dask_worker_memory_limit_bytes") == 64_000_000
    states = scraped.rows("dask_worker_tasks")
    assert sum(scraped.value("dask_worker_tasks", **row) for row in states) == len(a.state.tasks)
    buffer.press(False)


@gen_cluster(nthreads=[("", 1)])
async def test_a_paused_worker(s: Scheduler, a: Worker) -> None:
    metrics = WorkerMetrics(a)
    assert scrape(metrics).value("dask_worker_paused") == 0
    a.status = Status.paused
    assert scrape(metrics).value("dask_worker_paused") == 1


class Kept(dict[Any, Any]):
    """A user's mapping that knows what it has spent, by (activity, unit)."""

    cumulative_metrics = {  # noqa: RUF012 - as mappings of that kind have it
        ("disk-write", "bytes"): 5,
        ("disk-write", "count"): 2,
        ("disk-write", "seconds"): 0.5,
        ("pickle", "seconds"): 0.25,
    }


@gen_cluster(nthreads=[("", 1)], worker_kwargs={"data": Kept})
async def test_what_spilling_took(s: Scheduler, a: Worker) -> None:
    scraped = scrape(WorkerMetrics(a))
    assert scraped.value("dask_worker_spill_bytes_total", activity="disk-write") == 5
    assert scraped.value("dask_worker_spill_count_total", activity="disk-write") == 2
    assert scraped.value("dask_worker_spill_time_seconds_total", activity="disk-write") == 0.5
    assert scraped.value("dask_worker_spill_time_seconds_total", activity="pickle") == 0.25
