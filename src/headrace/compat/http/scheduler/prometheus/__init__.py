"""`distributed.http.scheduler.prometheus`."""

from headrace.http.routes.scheduler_metrics_page import routes

__all__ = ["routes"]
