"""`distributed.http.worker.prometheus`."""

from headrace.http.routes.worker_metrics_page import routes

__all__ = ["routes"]
