"""The text of a server: its own families apart from those of others here, and what users have registered."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import dask
import pytest
from dask.distributed import Scheduler, Worker
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric

from headrace.http.metrics import SchedulerMetrics, WorkerMetrics
from headrace.testing.clusters import gen_cluster
from tests.http.metrics.scraped import OPEN_METRICS, Scraped


@pytest.fixture
def registered() -> Iterator[list[Any]]:
    """Collectors that are taken off the registry afterwards."""
    collectors: list[Any] = []
    yield collectors
    for collector in collectors:
        REGISTRY.unregister(collector)


@gen_cluster(nthreads=[("", 1)])
async def test_servers_of_one_process_have_their_own(s: Scheduler, a: Worker) -> None:
    for metrics, own in ((SchedulerMetrics(s), "dask_scheduler"), (WorkerMetrics(a), "dask_worker")):
        names = {name for name in Scraped(metrics.text()).kinds if name.startswith(("dask_scheduler", "dask_worker"))}
        assert names
        assert all(name.startswith(own) for name in names)


@gen_cluster(nthreads=[("", 1)])
async def test_the_process_and_the_users_own_are_in_every_answer(
    s: Scheduler, a: Worker, registered: list[Any]
) -> None:
    rows = Counter("rows_read", "Rows that were read", ["file"])
    sizes = Histogram("row_bytes", "Sizes", buckets=[1, 10])
    registered += [rows, sizes]
    rows.labels("a.csv").inc(5)
    sizes.observe(3)
    scheduler, worker = SchedulerMetrics(s), WorkerMetrics(a)
    for answer in (scheduler.text(), scheduler.text(OPEN_METRICS), worker.text(), worker.text(OPEN_METRICS)):
        scraped = Scraped(answer)
        assert scraped.value("rows_read_total", file="a.csv") == 5
        assert scraped.value("row_bytes_bucket", le="10.0") == 1
        assert scraped.value("process_resident_memory_bytes") > 0
        assert scraped.kinds["python_info"] == "gauge"
    together = Scraped(await scheduler.text_with_workers())
    assert together.value("rows_read_total", file="a.csv") == 5
    assert together.value("rows_read_total", file="a.csv", worker=a.address) == 5


def odd(name: str = "odd", sample: str = "odd", label: Any = "x", value: Any = 1.0) -> Metric:
    family = Metric(name, "Odd", "gauge")
    family.add_sample(sample, {"label": label}, value)
    return family


@pytest.mark.parametrize(
    "family",
    [
        odd(label=None),
        odd(label=1),
        odd(label="\ud800"),
        odd(value=None),
        odd(value="one"),
        1,
        odd(sample="dask_scheduler_clients"),
    ],
)
@gen_cluster(nthreads=[("", 1)])
async def test_a_users_family_that_cannot_be_told_is_left_out(
    s: Scheduler, a: Worker, registered: list[Any], family: Any
) -> None:
    class Odd:
        def collect(self) -> Iterator[Any]:
            yield Metric("fine", "Fine", "gauge")
            yield family

        def describe(self) -> list[Any]:
            return []

    registered.append(Odd())
    REGISTRY.register(registered[0])
    metrics = SchedulerMetrics(s)
    for answer in (metrics.text(), metrics.text(OPEN_METRICS), await metrics.text_with_workers()):
        scraped = Scraped(answer)
        assert scraped.kinds["fine"] == "gauge"
        assert scraped.kinds["dask_scheduler_clients"] == "gauge"
        assert not [labels for _, labels in scraped.samples if ("label", "x") in labels]
        assert scraped.value("dask_scheduler_clients") == 0


@gen_cluster(nthreads=[("", 1)])
async def test_formats(s: Scheduler, a: Worker) -> None:
    scheduler, worker = SchedulerMetrics(s), WorkerMetrics(a)
    assert scheduler.text()[1] == "text/plain; version=0.0.4"
    assert scheduler.text(OPEN_METRICS)[1] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    # a gauge and a counter of one name: that is not OpenMetrics
    assert worker.text(OPEN_METRICS)[1] == "text/plain; version=0.0.4"


@gen_cluster(nthreads=[])
async def test_a_users_name_that_is_taken_is_left_out(s: Scheduler, registered: list[Any]) -> None:
    registered += [Gauge("dask_scheduler_clients", "mine"), Counter("dask_scheduler_workers_added", "mine")]
    for answer in (SchedulerMetrics(s).text(), SchedulerMetrics(s).text(OPEN_METRICS)):
        assert answer[0].count(b"TYPE dask_scheduler_clients") == 1
        assert b"mine" not in answer[0]


class Broken:
    def collect(self) -> Any:
        raise ValueError("on purpose")

    def describe(self) -> Any:
        return []


@gen_cluster(nthreads=[])
async def test_a_users_collector_that_raises_does_not_spoil_the_answer(
    s: Scheduler, registered: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken()
    REGISTRY.register(broken)  # type: ignore[arg-type]
    registered.append(broken)
    with caplog.at_level(logging.ERROR, "distributed.http"):
        scraped = Scraped(SchedulerMetrics(s).text())
    assert scraped.value("dask_scheduler_clients") == 0
    assert "could not be read" in caplog.text


@gen_cluster(nthreads=[])
async def test_names_begin_with_the_configured_word(s: Scheduler) -> None:
    with dask.config.set({"distributed.dashboard.prometheus.namespace": "mine"}):
        names = Scraped(SchedulerMetrics(s).text()).kinds
    assert "mine_scheduler_clients" in names
    assert "mine_semaphore_max_leases" in names
    assert not any(name.startswith("dask") for name in names)


PROGRAM = """
import sys
import headrace
from headrace import Client
if __name__ == "__main__":
    with Client(processes=False, n_workers=1, dashboard_address=":0") as client:
        assert client.submit(int).result() == 0
        print([name for name in sys.modules if name.startswith("prometheus_client")])
"""


@pytest.mark.slow
def test_nothing_is_imported_before_somebody_asks() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "[]\n", ended.stderr
