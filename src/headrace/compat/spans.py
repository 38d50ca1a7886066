"""`distributed.spans`.

The worker's half of spans tells what tasks have measured themselves (`distributed.metrics.context_meter`); all else
that the scheduler adds up comes with the results of tasks. It is made by the first measurement.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from typing import Any

from headrace.common.keys import Key, key_group
from headrace.extensions.spans import Span, SpanMetadata, SpansSchedulerExtension, span


class SpansWorkerExtension:
    """Keeps what tasks have measured until the next heartbeat."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self._lock = threading.Lock()
        self._measured: dict[tuple[str | None, str, tuple[Any, ...], str], float] = {}

    def note(self, key: Key, label: Hashable, value: float, unit: str) -> None:
        """Add up a measurement of a task; in the task's thread.

        Args:
            key: the task's, in its wire form.
            label: what was measured; one that is a tuple is spread out.
        """
        task = self.worker.core.tasks.get(key)
        annotation = task.annotations.get("span") if task is not None else None
        span_id = annotation["ids"][-1] if annotation else None
        parts = tuple(map(_plain, label if isinstance(label, tuple) else (label,)))
        name = (span_id, key_group(key), parts, unit)
        with self._lock:
            self._measured[name] = self._measured.get(name, 0) + value

    def collect_digests(self, digests_total_since_heartbeat: Mapping[Any, float]) -> None:
        """Accepted for compatibility."""

    def heartbeat(self) -> list[Any]:
        """What was measured since the last one: [id of the span or None, group, label's parts, unit, sum]."""
        with self._lock:
            measured, self._measured = self._measured, {}
        return [[span_id, group, list(parts), unit, total] for (span_id, group, parts, unit), total in measured.items()]


def _plain(part: object) -> object:
    """A part of a label as messages can carry it."""
    return part if part is None or isinstance(part, (str, int, float)) else str(part)


__all__ = ["Span", "SpanMetadata", "SpansSchedulerExtension", "SpansWorkerExtension", "span"]
