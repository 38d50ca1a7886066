"""The tables of docs/metrics.md name every family of metrics, with its type, labels and meaning, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dask.distributed import Nanny, Scheduler, Worker

from headrace.http.metrics import NannyMetrics, SchedulerMetrics, WorkerMetrics
from headrace.testing.clusters import gen_cluster
from tests.http.metrics.scraped import Scraped

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(?P<name>[a-z_]+)` \| (?P<kind>gauge|counter) \| (?P<labels>[^|]*) \| (?P<text>[^|]+) \|$")


def documented(section: str) -> dict[str, tuple[str, str, list[str]]]:
    """Type, meaning and labels by name."""
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [match for line in text.splitlines() if (match := ROW.match(line))]
    assert rows
    return {row["name"]: (row["kind"], row["text"], re.findall(r"`(\w+)`", row["labels"])) for row in rows}


def exposed(scraped: Scraped) -> dict[str, tuple[str, str]]:
    ours = {name: kind for name, kind in scraped.kinds.items() if name.startswith("dask_")}
    # what is there only where a library is installed has no row
    return {name: (kind, scraped.texts[name]) for name, kind in ours.items() if "_gil_" not in name}


def compare(section: str, scraped: Scraped) -> None:
    told = documented(section)
    assert {name: row[:2] for name, row in told.items()} == exposed(scraped)
    for name, (_, _, labels) in told.items():
        assert all(set(sample) - {"worker"} == set(labels) for sample in scraped.rows(name)), name


@gen_cluster()
async def test_schedulers_and_workers(s: Scheduler, a: Worker, b: Worker) -> None:
    compare("Worker", Scraped(WorkerMetrics(a).text()))
    together = documented("Scheduler")
    scraped = Scraped(await SchedulerMetrics(s).text_with_workers())
    scraped.kinds = {name: kind for name, kind in scraped.kinds.items() if not name.startswith("dask_worker_")}
    compare("Scheduler", scraped)
    del together["dask_scheduler_workers_not_scraped"]
    assert set(together) == set(exposed(Scraped(SchedulerMetrics(s).text())))


@pytest.mark.slow
@gen_cluster(nthreads=[("127.0.0.1", 1)], Worker=Nanny)
async def test_nannies(s: Scheduler, a: Nanny) -> None:
    compare("Nanny", Scraped(NannyMetrics(a).text()))
