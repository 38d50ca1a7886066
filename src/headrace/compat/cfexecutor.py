"""`distributed.cfexecutor`."""

from __future__ import annotations

from headrace.client.executor import ClientExecutor

__all__ = ["ClientExecutor"]
