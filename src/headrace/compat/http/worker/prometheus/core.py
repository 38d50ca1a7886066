"""`distributed.http.worker.prometheus.core`."""

from headrace.http.routes.worker_metrics_page import WorkerMetricsHandler as PrometheusHandler

__all__ = ["PrometheusHandler"]
