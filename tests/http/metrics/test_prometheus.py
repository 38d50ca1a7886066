"""A real Prometheus scrapes a cluster, and evaluates every query of the dashboard for Grafana and of the rules."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import yaml
from dask.distributed import Client, Nanny, Scheduler, Semaphore, Worker

from headrace.compat.utils import open_port
from headrace.http.metrics.nanny_metrics import NANNY_TABLE
from headrace.http.metrics.scheduler_metrics import SCHEDULER_TABLE
from headrace.http.metrics.worker_metrics import WORKER_TABLE
from headrace.testing.clusters import gen_cluster
from tests.http.http_calls import ask

PACKAGING = Path(__file__).parents[3] / "packaging"
RULES = PACKAGING / "prometheus" / "rules.yml"
BOARD = json.loads((PACKAGING / "grafana" / "headrace.json").read_text())

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")

#: Queries for what happens seldom, or not in this test: they find nothing, and are no less right for that.
QUIET = {
    "dask_worker_spill_bytes_total",
    "dask_worker_spill_time_seconds_total",
    "dask_nanny_worker_ends_total",
}


def queries() -> Iterator[tuple[str, str]]:
    """Title and query of each line of each panel, with the variables of the dashboard filled in."""
    for panel in BOARD["panels"]:
        for target in panel.get("targets", ()):
            filled = target["expr"].replace("$__rate_interval", "20s")
            yield panel["title"], filled.replace("$scheduler", ".*").replace("$worker", ".*")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def get(self, path: str) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
        ):
            return await answer.json()

    async def query(self, expression: str) -> list[Any]:
        answer = await self.get(f"/api/v1/query?query={quote(expression)}")
        assert answer["status"] == "success", f"{expression}: {answer}"
        result: list[Any] = answer["data"]["result"]
        return result

    async def until(self, expression: str) -> list[Any]:
        """Wait until a query finds something."""
        while not (found := await self.query(expression)):
            await asyncio.sleep(0.1)
        return found


@asynccontextmanager
async def prometheus(directory: Path, jobs: list[dict[str, Any]]) -> AsyncIterator[Prometheus]:
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(RULES)],
        "scrape_configs": jobs,
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = open_port("127.0.0.1")
    command = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:
        while True:
            assert process.returncode is None, (directory / "log").read_text()
            try:
                if (await ask(port, "/-/ready")).status == 200:
                    break
            except OSError:
                pass
            await asyncio.sleep(0.05)
        yield Prometheus(port)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def inc(x: int) -> int:
    return x + 1


def fail() -> None:
    raise ValueError("on purpose")


def names_in(expression: str) -> set[str]:
    """The metrics that a query names."""
    return set(re.findall(r"\b(?:dask|process)_\w+", expression))


def known_names() -> set[str]:
    tables = (*SCHEDULER_TABLE, *WORKER_TABLE, *NANNY_TABLE)
    process = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
    return {f"dask_{described.name}" for described in tables} | process


def jobs_for(s: Scheduler, nanny: Nanny) -> list[dict[str, Any]]:
    scheduler = f"127.0.0.1:{s.http_server.port}"
    targets = f"http://{scheduler}/api/v2/prometheus-targets"
    return [
        {"job_name": "found", "http_sd_configs": [{"url": targets, "refresh_interval": "1s"}]},
        {"job_name": "nannies", "static_configs": [{"targets": [f"127.0.0.1:{nanny.http_server.port}"]}]},
        {
            "job_name": "together",
            "params": {"workers": ["1"]},
            "static_configs": [{"targets": [scheduler], "labels": {"instance": "together"}}],
        },
    ]


@pytest.mark.slow
@gen_cluster(client=True, timeout=100)
async def test_every_query_of_dashboard_and_rules(
    c: Client, s: Scheduler, a: Worker, b: Worker, tmp_path: Path
) -> None:
    async with (
        Nanny(s.address, nthreads=1, dashboard_address="127.0.0.1:0") as nanny,
        prometheus(tmp_path, jobs_for(s, nanny)) as server,
    ):
        semaphore = await Semaphore(name="s", max_leases=1)
        await semaphore.acquire()
        stuck = c.submit(inc, 0, resources={"GPU": 1}, pure=False)
        await server.until("count(dask_worker_threads) >= 6")  # three found, and three through the scheduler
        await server.until("dask_nanny_worker_alive == 1")
        moved = [c.submit(inc, number, workers=[a.address], pure=False) for number in range(20)]
        await c.gather([c.submit(inc, future, workers=[b.address]) for future in moved])
        for times in (1, 2):  # what has gone up from the first look on
            failed = c.submit(fail, pure=False)
            await failed.exception()
            await server.until(f'dask_scheduler_prefix_state_totals_total{{state="erred"}} == {times}')
        await server.until('rate(dask_scheduler_prefix_state_totals_total{state="erred"}[20s]) > 0')
        await server.until("rate(dask_worker_transfer_incoming_bytes_total[20s]) > 0")
        for title, expression in queries():
            found = await server.query(expression)
            assert found or names_in(expression) & QUIET, f"{title}: {expression} finds nothing"
            assert names_in(expression) <= known_names()
        while True:
            groups = (await server.get("/api/v1/rules"))["data"]["groups"]
            states = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
            assert "err" not in states.values(), groups
            if set(states.values()) == {"ok"}:
                break
            await asyncio.sleep(0.1)
        recorded = [rule["record"] for rule in rules() if "record" in rule]
        for name in recorded:
            await server.until(name)
        for rule in rules():
            assert names_in(re.sub(r"\w+:\w+:\w+", "", rule["expr"])) <= known_names(), rule
        pending = await server.query('ALERTS{alertname="DaskTasksCannotRun"}')
        assert {alert["metric"]["wants"] for alert in pending} == {"GPU=1"}
        await semaphore.release()
        del stuck


def test_rules_are_well_formed() -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for rule in rules():
        if "alert" in rule:
            assert {"summary", "description"} <= rule["annotations"].keys(), rule["alert"]
            assert rule["labels"]["severity"] in ("info", "warning")
