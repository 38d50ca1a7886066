"""`distributed.http.scheduler.prometheus.core`."""

from __future__ import annotations

from typing import Any

from headrace.compat.http.prometheus import ServerCollector
from headrace.http.routes.scheduler_metrics_page import SchedulerMetricsHandler as PrometheusHandler

__all__ = ["PrometheusHandler", "SchedulerMetricCollector"]


class SchedulerMetricCollector(ServerCollector):
    """The metrics of a scheduler, for a registry of `prometheus_client`."""

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.subsystem = "scheduler"
