"""`distributed.http.scheduler.api`."""

from headrace.http.routes.cluster_api import (
    AdaptiveTargetHandler,
    CheckIdleHandler,
    GetWorkersHandler,
    RetireWorkersHandler,
    routes,
)
from headrace.http.routes.cluster_api import ApiHandler as APIHandler

__all__ = [
    "APIHandler",
    "AdaptiveTargetHandler",
    "CheckIdleHandler",
    "GetWorkersHandler",
    "RetireWorkersHandler",
    "routes",
]
