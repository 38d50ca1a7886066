"""`distributed.http.health`."""

from headrace.http.routes.health import HealthHandler, routes

__all__ = ["HealthHandler", "routes"]
