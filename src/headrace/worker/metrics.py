"""What a worker tells about itself with every heartbeat: load, memory, and how its tasks are doing."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.machine import process_memory

if TYPE_CHECKING:
    from .server import Worker

logger = logging.getLogger("distributed.worker")


class Metrics:
    """Readings of one worker and its process.

    Args:
        custom: functions of the user's by name, called with the worker.
    """

    def __init__(self, worker: Worker, custom: dict[str, Callable[[Any], Any]]) -> None:
        self._worker = worker
        self._custom = custom
        self._last = (time.monotonic(), time.process_time())

    def read(self) -> dict[str, Any]:
        """The current values: `cpu` in percent of one processor, memory in bytes, counts."""
        worker = self._worker
        state, transfers = worker.state, worker.transfers
        tasks = Counter(
            executing=state.executing_count,
            ready=len(state.ready),
            waiting=len(state.waiting),
            flight=len(state.in_flight_tasks),
            memory=state.in_memory,
        )
        found = {
            "task_counts": dict(tasks),
            "bandwidth": {"total": transfers.bandwidth, "workers": {}, "types": {}},
            "managed_bytes": state.nbytes,
            "spilled_bytes": worker.memory_manager.spilled(),
            "transfer": {
                "incoming_bytes": state.transfer_incoming_bytes,
                "incoming_count": state.transfer_incoming_count,
                "incoming_count_total": state.transfer_incoming_count_total,
                "outgoing_count": transfers.outgoing_count,
                "outgoing_count_total": transfers.outgoing_total,
                "outgoing_bytes_total": transfers.sent,
            },
            "executing": state.executing_count,
            "in_memory": state.in_memory,
            "in_flight": len(state.in_flight_tasks),
            "ready": len(state.ready),
            "time": time.time(),
            "cpu": self._cpu(),
            "memory": process_memory(),
        }
        for name, function in self._custom.items():
            try:
                found[name] = function(worker)
            except Exception:
                logger.exception("Could not read the metric %r", name)
        return found

    def _cpu(self) -> float:
        now, used = time.monotonic(), time.process_time()
        before, used_before = self._last
        self._last = now, used
        elapsed = now - before
        return round(100 * (used - used_before) / elapsed, 1) if elapsed > 0 else 0.0
