"""`distributed.spans`.

The worker's half of spans has nothing to say: what the scheduler adds up comes with the results of tasks. Its class is
here for those who name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.extensions.spans import Span, SpanMetadata, SpansSchedulerExtension, span


class SpansWorkerExtension:
    """Takes part in heartbeats, without anything to say."""

    def __init__(self, worker: object) -> None:
        self.worker = worker

    def collect_digests(self, digests_total_since_heartbeat: Mapping[Any, float]) -> None:
        """Accepted for compatibility."""

    def heartbeat(self) -> dict[Any, float]:
        """Nothing."""
        return {}


__all__ = ["Span", "SpanMetadata", "SpansSchedulerExtension", "SpansWorkerExtension", "span"]
