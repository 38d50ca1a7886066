"""The documented modules of `distributed.http`: each has its names, and its routes are those that are served."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace import Worker
from headrace.http.request_handler import RequestHandler
from headrace.http.route_tables import OWN_ROUTES
from headrace.testing.clusters import gen_cluster

NAMES: dict[str, list[str]] = {
    "health": ["HealthHandler"],
    "prometheus": ["PrometheusCollector", "PrometheusNotAvailableHandler", "import_metrics_handler"],
    "proxy": ["GlobalProxyHandler", "check_worker_dashboard_exists"],
    "routing": ["DirectoryHandler", "RoutingApplication"],
    "statics": [],
    "utils": ["RequestHandler", "redirect", "get_handlers", "dirname"],
    "scheduler.api": [
        "APIHandler",
        "AdaptiveTargetHandler",
        "CheckIdleHandler",
        "GetWorkersHandler",
        "RetireWorkersHandler",
    ],
    "scheduler.info": [
        "EventstreamHandler",
        "Exceptions",
        "IndividualPlots",
        "Logs",
        "Task",
        "TaskCallStack",
        "Worker",
        "WorkerCallStacks",
        "WorkerLogs",
        "Workers",
    ],
    "scheduler.json": ["CountsJSON", "IdentityJSON", "IndexJSON"],
    "scheduler.missing_bokeh": ["MissingBokeh"],
    "scheduler.prometheus": [],
    "scheduler.prometheus.core": ["PrometheusHandler", "SchedulerMetricCollector"],
    "worker.prometheus": [],
    "worker.prometheus.core": ["PrometheusHandler", "WorkerMetricCollector"],
}


@pytest.mark.parametrize("path", NAMES)
def test_names(path: str) -> None:
    module = import_module(f"distributed.http.{path}")
    for name in NAMES[path]:
        value = getattr(module, name)
        if name.endswith("Handler") or path in ("scheduler.info", "scheduler.json"):
            assert issubclass(value, RequestHandler)


@pytest.mark.parametrize("name", [name for name in OWN_ROUTES if "nanny" not in name])
def test_routes(name: str) -> None:
    assert import_module(name).routes is import_module(OWN_ROUTES[name]).routes


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_collectors_and_questions_about_workers(s: Any, a: Worker) -> None:
    from distributed.http.prometheus import PrometheusCollector, import_metrics_handler
    from distributed.http.proxy import check_worker_dashboard_exists
    from distributed.http.scheduler.prometheus.core import PrometheusHandler, SchedulerMetricCollector
    from distributed.http.worker.prometheus.core import WorkerMetricCollector

    names = {family.name for family in SchedulerMetricCollector(s).collect()}
    assert {"dask_scheduler_clients", "dask_scheduler_tasks"} <= names
    assert all(name.startswith("dask_scheduler_") for name in names)
    assert "dask_worker_tasks" in {family.name for family in WorkerMetricCollector(a).collect()}
    own = PrometheusCollector(s)
    own.subsystem = "mine"
    assert own.build_name("x") == "dask_mine_x"
    found = import_metrics_handler("distributed.http.scheduler.prometheus.core", "PrometheusHandler")
    assert found is PrometheusHandler
    assert check_worker_dashboard_exists(s, f"127.0.0.1:{a.http_server.port}")
    assert not check_worker_dashboard_exists(s, "127.0.0.1:1")
    assert not check_worker_dashboard_exists(s, "nowhere")


def test_servers_do_not_load_aiohttp_for_the_names() -> None:
    program = "import sys, headrace, distributed.http.utils; headrace.Scheduler; print('aiohttp' in sys.modules)"
    env = {"PYTHONPATH": str(Path(headrace.__file__).parents[1])}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True)
    assert ran.stdout.strip() == "False"
