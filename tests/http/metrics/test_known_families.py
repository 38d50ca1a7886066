"""Dashboards and alerts that people have for dask find the same families here: row by row."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from dask.distributed import Client, Scheduler, Semaphore, Worker

from headrace.http.metrics import SchedulerMetrics, WorkerMetrics
from headrace.testing.clusters import gen_cluster
from tests.http.metrics.scraped import Scraped

KNOWN = tomllib.loads((Path(__file__).parent / "known_families.toml").read_text())


def differences(scraped: Scraped, rows: list[dict[str, Any]]) -> list[str]:
    """What is other than the rows say, each in a line."""
    found = []
    for row in rows:
        name, labels, values = row["name"], row.get("labels", []), row.get("values")
        if scraped.kinds.get(name) != row["type"]:
            found.append(f"{name} is {scraped.kinds.get(name)}, not {row['type']}")
            continue
        samples = scraped.rows(name)
        if any(sorted(sample) != labels for sample in samples):
            found.append(f"{name} has the labels {samples}, not {labels}")
        if values is not None and [sample[labels[0]] for sample in samples] != values:
            found.append(f"{name} has the values {samples}, not {values}")
    return found


def fail() -> None:
    raise ValueError("on purpose")


def inc(x: int) -> int:
    return x + 1


@gen_cluster(client=True)
async def test_all_families_are_there_with_their_types_and_labels(
    c: Client, s: Scheduler, a: Worker, b: Worker
) -> None:
    await c.gather(c.map(inc, range(4)))
    failed = c.submit(fail)
    await failed.exception()
    semaphore = await Semaphore(name="s", max_leases=2)
    assert await semaphore.acquire()
    assert differences(Scraped(SchedulerMetrics(s).text()), KNOWN["scheduler"]) == []
    assert differences(Scraped(WorkerMetrics(a).text()), KNOWN["worker"]) == []
    await semaphore.release()


@gen_cluster(nthreads=[], client=False)
async def test_they_are_there_before_anything_has_happened(s: Scheduler) -> None:
    rows = [row for row in KNOWN["scheduler"] if "task_prefix_name" not in row.get("labels", [])]
    assert differences(Scraped(SchedulerMetrics(s).text()), rows) == []
