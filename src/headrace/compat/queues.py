"""`distributed.queues`."""

from __future__ import annotations

from headrace.extensions.queues import Queue
from headrace.extensions.queues.scheduler import QueueExtension

__all__ = ["Queue", "QueueExtension"]
