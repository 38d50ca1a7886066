"""`/metrics` of a scheduler, with `?workers=1` also of its workers; `/api/v2/prometheus-targets`: where these are.

Where Prometheus cannot reach the workers, it asks the scheduler for theirs; where it can, it finds them by the list.
"""

from __future__ import annotations

from headrace.comm import get_address_host
from headrace.comm.addressing import unparse_host_port
from headrace.http.request_handler import RequestHandler, Routes

from .metrics_page import MetricsHandler, metrics_of

#: The `workers` arguments that mean no.
_NO = ("", "0", "false", "no")


class SchedulerMetricsHandler(MetricsHandler):
    """Answers with the metrics of the scheduler, and of its workers if the caller asks for them."""

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics, and their content type."""
        if self.get_query_argument("workers", "0").lower() in _NO:
            return await super().text(accept)
        return await metrics_of(self.server).text_with_workers(accept)  # type: ignore[no-any-return]


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


routes: Routes = [
    (r"metrics", SchedulerMetricsHandler, {}),
    (r"api/v2/prometheus-targets", TargetsHandler, {}),
]
