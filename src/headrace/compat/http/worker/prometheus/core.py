"""`distributed.http.worker.prometheus.core`."""

from __future__ import annotations

from typing import Any

from headrace.compat.http.prometheus import ServerCollector
from headrace.http.routes.metrics_page import MetricsHandler as PrometheusHandler

__all__ = ["PrometheusHandler", "WorkerMetricCollector"]


class WorkerMetricCollector(ServerCollector):
    """The metrics of a worker, for a registry of `prometheus_client`."""

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.subsystem = "worker"
