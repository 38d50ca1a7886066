"""`distributed.http.proxy`."""

from __future__ import annotations

import contextlib
from typing import Any

from headrace.comm.addressing import parse_host_port
from headrace.http.request_handler import HttpError
from headrace.http.routes.worker_proxy import ProxyHandler as GlobalProxyHandler
from headrace.http.routes.worker_proxy import routes, worker_location

__all__ = ["GlobalProxyHandler", "check_worker_dashboard_exists", "routes"]


def check_worker_dashboard_exists(scheduler: Any, worker: str) -> bool:
    """Whether a connected worker serves HTTP at "host:port"."""
    with contextlib.suppress(HttpError, ValueError):
        worker_location(scheduler, *parse_host_port(worker))
        return True
    return False
