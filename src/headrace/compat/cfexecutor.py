"""`distributed.cfexecutor`."""

from __future__ import annotations

from headrace.client.cluster_executor import ClientExecutor

__all__ = ["ClientExecutor"]
