"""`distributed.batched`."""

from __future__ import annotations

from headrace.toolbox.batched import BatchedSend

__all__ = ["BatchedSend"]
