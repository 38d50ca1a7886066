"""The interpreter's lock is watched where a library can do that, and in no other case."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import dask
import pytest
from dask.distributed import Scheduler, Worker

from headrace.http.metrics import SchedulerMetrics, WorkerMetrics, lock_contention
from headrace.testing.clusters import gen_cluster
from tests.http.metrics.scraped import Scraped


class KnockKnock:
    """Stands for the library's: half of the time the lock is taken."""

    made: list[KnockKnock] = []  # noqa: RUF012 - what tests look at

    def __init__(self, microseconds: int) -> None:
        self.microseconds = microseconds
        self.started = False
        self.resets = 0
        self.contention_metric = 0.5
        self.made.append(self)

    def start(self) -> None:
        self.started = True

    def reset_contention_metric(self) -> None:
        self.resets += 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = ModuleType("gilknocker")
    module.__spec__ = ModuleSpec("gilknocker", None)
    module.KnockKnock = KnockKnock  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gilknocker", module)
    monkeypatch.setattr(lock_contention, "_of_this_process", None)
    KnockKnock.made.clear()
    return KnockKnock


@gen_cluster(nthreads=[("", 1)])
async def test_with_the_library(s: Scheduler, a: Worker, library: Any) -> None:
    scheduler = SchedulerMetrics(s)
    first = Scraped(scheduler.text()).value("dask_scheduler_gil_contention_seconds_total")
    second = Scraped(scheduler.text()).value("dask_scheduler_gil_contention_seconds_total")
    third = Scraped(WorkerMetrics(a).text()).value("dask_worker_gil_contention_seconds_total")
    assert 0 <= first < second < third
    (knocker,) = library.made  # one in a process
    assert knocker.started
    assert knocker.microseconds == 1000
    assert knocker.resets == 3


@gen_cluster(nthreads=[])
async def test_switched_off(s: Scheduler, library: Any) -> None:
    with dask.config.set({"distributed.admin.system-monitor.gil.enabled": False}):
        names = Scraped(SchedulerMetrics(s).text()).kinds
    assert not any("gil" in name for name in names)
    assert library.made == []
