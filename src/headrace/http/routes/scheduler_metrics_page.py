"""`/metrics` of a scheduler, with `?workers=1` also of its workers; `/api/v2/prometheus-targets`: where these are.

Where Prometheus cannot reach the workers, it asks the scheduler for theirs; where it can, it finds them by the list.
"""

from __future__ import annotations

from typing import Any

from headrace.comm import get_address_host
from headrace.comm.addressing import unparse_host_port
from headrace.http.request_handler import RequestHandler, Routes

#: The `workers` arguments that mean no.
_NO = ("", "0", "false", "no")


class SchedulerMetricsHandler(RequestHandler):
    """Answers with the metrics of the scheduler."""

    def initialize(self, dask_server: object = None, **keywords: object) -> None:
        """Find the scheduler's metrics, which are counted from the first scrape on."""
        self.metrics = metrics_of(self.server, "headrace.http.metrics.scheduler_metrics", "SchedulerMetrics")

    async def get(self) -> None:
        """Answer in the format that the caller prefers."""
        accept = self.request.headers.get("Accept", "")
        if self.get_query_argument("workers", "0").lower() in _NO:
            body, kind = self.metrics.text(accept)
        else:
            body, kind = await self.metrics.text_with_workers(accept)
        self.set_header("Content-Type", kind)
        self.write(body)


class TargetsHandler(RequestHandler):
    """Lists the addresses to scrape, as Prometheus' `http_sd_config` reads them."""

    def get(self) -> None:
        """Answer with the scheduler and each worker that serves HTTP."""
        core = self.server.shell.core
        own = unparse_host_port(get_address_host(self.server.address), self.server.http_server.port)
        targets = [{"targets": [own], "labels": {"job": "dask-scheduler", "dask_role": "scheduler"}}]
        for worker in core.workers.values():
            port = worker.services.get("dashboard")
            if port:
                labels = {"job": "dask-worker", "dask_role": "worker", "dask_worker": str(worker.name)}
                host = get_address_host(worker.address)
                targets.append({"targets": [unparse_host_port(host, port)], "labels": labels})
        self.write_json(targets)


def metrics_of(server: Any, module: str, name: str) -> Any:
    """The metrics of a server, made at its first scrape and kept with its HTTP server.

    Args:
        module, name: where their class is.
    """
    from importlib import import_module

    http = server.http_server
    if http.metrics is None:
        http.metrics = getattr(import_module(module), name)(server)
    return http.metrics


routes: Routes = [
    (r"metrics", SchedulerMetricsHandler, {}),
    (r"api/v2/prometheus-targets", TargetsHandler, {}),
]
