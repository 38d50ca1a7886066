"""Values of a nanny's metrics, as its workers end."""

from __future__ import annotations

import os
import signal

import pytest
from dask.distributed import Nanny, Scheduler

from headrace.http.metrics import NannyMetrics
from headrace.nanny.worker_process import WorkerProcess, kind_of_end
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.http.metrics.scraped import OPEN_METRICS, Scraped


@pytest.mark.slow
@gen_cluster(nthreads=[("127.0.0.1", 1)], Worker=Nanny, worker_kwargs={"memory_limit": "1 GB"})
async def test_ends_of_workers(s: Scheduler, a: Nanny) -> None:
    metrics = NannyMetrics(a)
    scraped = Scraped(metrics.text(OPEN_METRICS))
    assert scraped.value("dask_nanny_worker_alive") == 1
    assert scraped.value("dask_nanny_worker_starts_total") == 1
    assert scraped.value("dask_nanny_worker_restarts_total") == 0
    assert scraped.value("dask_nanny_worker_memory_bytes") > 0
    assert scraped.value("dask_nanny_worker_memory_limit_bytes") == 1_000_000_000
    assert scraped.rows("dask_nanny_worker_ends_total") == []
    first = a.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await async_poll_for(lambda: a.pid != first and a.worker_address in s.workers, 30)
    await a.restart()
    scraped = Scraped(metrics.text())
    assert scraped.value("dask_nanny_worker_ends_total", cause="SIGKILL") == 1
    assert scraped.value("dask_nanny_worker_ends_total", cause="asked") == 1
    assert scraped.value("dask_nanny_worker_restarts_total") == 2
    a.memory_manager.memory_limit = 1000
    a.memory_manager.look()
    await async_poll_for(lambda: a.ends.get("memory") == 1, 30)
    assert Scraped(metrics.text()).value("dask_nanny_worker_memory_kills_total") == 1
    a.memory_manager.memory_limit = None


@pytest.mark.parametrize(
    ("facts", "code", "asked", "kind"),
    [
        ({"killed_for_memory": True, "exit_cause": "it took too much"}, -9, False, "memory"),
        ({}, -15, True, "asked"),
        ({"address": None}, 1, False, "not-started"),
        ({"closed_itself": "retired"}, 0, False, "closed"),
        ({"restart_reason": "lifetime"}, 0, False, "restart"),
        ({"exit_cause": "a task closed it"}, 0, False, "failed"),
        ({}, -11, False, "SIGSEGV"),
        ({}, -120, False, "signal 120"),
        ({}, 3, False, "exit"),
    ],
)
async def test_kinds_of_ends(facts: dict[str, object], code: int, asked: bool, kind: str) -> None:
    process = WorkerProcess({})
    process.address = "tcp://127.0.0.1:1"
    for name, value in facts.items():
        setattr(process, name, value)
    assert kind_of_end(process, code, asked) == kind
