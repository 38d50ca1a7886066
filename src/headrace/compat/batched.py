"""`distributed.batched`."""

from __future__ import annotations

from headrace.compat.toolbox.batched_send import BatchedSend

__all__ = ["BatchedSend"]
