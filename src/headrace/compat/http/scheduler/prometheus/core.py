"""`distributed.http.scheduler.prometheus.core`."""

from headrace.http.routes.scheduler_metrics_page import SchedulerMetricsHandler as PrometheusHandler

__all__ = ["PrometheusHandler"]
