"""`/metrics` of a worker or a nanny, and what a scheduler's, in `scheduler_metrics_page`, has in common with them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from headrace.http.request_handler import SCRAPERS, RequestHandler, Routes

#: Module and name of the class of a server's metrics, by its kind.
METRICS = {
    "Scheduler": ("headrace.http.metrics.scheduler_metrics", "SchedulerMetrics"),
    "Worker": ("headrace.http.metrics.worker_metrics", "WorkerMetrics"),
    "Nanny": ("headrace.http.metrics.nanny_metrics", "NannyMetrics"),
}


def metrics_of(server: Any) -> Any:
    """The metrics of a server, made at its first scrape, from which on they count, and kept with its HTTP server."""
    http = server.http_server
    if http.metrics is None:
        module, name = METRICS[server.kind]
        http.metrics = getattr(import_module(module), name)(server)
    return http.metrics


class MetricsHandler(RequestHandler):
    """Answers with the metrics of the server."""

    open_to: ClassVar[str] = SCRAPERS

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics, and their content type.

        Args:
            accept: the formats that the caller takes, as in the header `Accept`.
        """
        return metrics_of(self.server).text(accept)  # type: ignore[no-any-return]

    async def get(self) -> None:
        """Answer in the format that the caller prefers."""
        body, kind = await self.text(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", kind)
        self.write(body)


routes: Routes = [(r"metrics", MetricsHandler, {})]
