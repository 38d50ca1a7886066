"""`/metrics` of a worker."""

from __future__ import annotations

from headrace.http.request_handler import RequestHandler, Routes

from .scheduler_metrics_page import metrics_of


class WorkerMetricsHandler(RequestHandler):
    """Answers with the metrics of the worker."""

    def get(self) -> None:
        """Answer in the format that the caller prefers."""
        metrics = metrics_of(self.server, "headrace.http.metrics.worker_metrics", "WorkerMetrics")
        body, kind = metrics.text(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", kind)
        self.write(body)


routes: Routes = [(r"metrics", WorkerMetricsHandler, {})]
