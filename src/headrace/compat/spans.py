"""`distributed.spans`.

What workers spend on tasks reaches the scheduler with their heartbeats (`headrace.worker.activity_totals`); the
worker's half of spans is there for its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.extensions.spans import Span, SpanMetadata, SpansSchedulerExtension, span


class SpansWorkerExtension:
    """The worker's half of spans."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker

    def collect_digests(self, digests_total_since_heartbeat: Mapping[Any, float]) -> None:
        """Accepted for compatibility: a worker's heartbeat tells the digests itself."""

    def heartbeat(self) -> list[Any]:
        """Nothing more than the worker says itself."""
        return []


__all__ = ["Span", "SpanMetadata", "SpansSchedulerExtension", "SpansWorkerExtension", "span"]
