"""`distributed.worker_client`."""

from __future__ import annotations

from headrace.worker import local_client, worker_client

__all__ = ["local_client", "worker_client"]
