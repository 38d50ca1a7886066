"""The worker's half of spans: nothing. What the scheduler adds up comes with the results of tasks, so heartbeats are
not needed for it; the class is there for those who name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class SpansWorkerExtension:
    """Takes part in heartbeats, without anything to say."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker

    def collect_digests(self, digests_total_since_heartbeat: Mapping[Any, float]) -> None:
        """Accepted for compatibility."""

    def heartbeat(self) -> dict[Any, float]:
        """Nothing."""
        return {}
