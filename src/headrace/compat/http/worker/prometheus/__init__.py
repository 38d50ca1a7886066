"""`distributed.http.worker.prometheus`."""

from headrace.http.routes.metrics_page import routes

__all__ = ["routes"]
