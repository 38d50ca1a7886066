"""A worker's report about itself in every heartbeat: load, memory, and how its tasks are doing."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace import config
from headrace.containment import log_raised
from headrace.machine import process_memory

if TYPE_CHECKING:
    from .server import WorkerServer

#: Readings of every worker that is made from now on, by name; called with the worker.
DEFAULT_METRICS: dict[str, Callable[[Any], Any]] = {}

logger = logging.getLogger("distributed.worker")


class Metrics:
    """Readings of one worker and its process.

    Args:
        custom: functions of the user's by name, called with the worker.
    """

    def __init__(self, worker: WorkerServer, custom: dict[str, Callable[[Any], Any]]) -> None:
        self._worker = worker
        self._custom = custom
        self._last = (time.monotonic(), time.process_time())
        kept = int(config.get("distributed.admin.system-monitor.log-length"))
        self._history: deque[tuple[float, float, int]] = deque(maxlen=kept)
        self._count = 0

    def read(self) -> dict[str, Any]:
        """The current values: `cpu` in percent of one processor, memory in bytes, counts."""
        worker = self._worker
        state, transfers = worker.core, worker.transfers
        tasks = Counter(
            executing=state.executing_count,
            ready=len(state.ready),
            waiting=len(state.waiting),
            flight=len(state.in_flight_tasks),
            memory=state.in_memory,
        )
        now, cpu, memory = time.time(), self._cpu(), process_memory()
        found: dict[str, Any] = {
            "task_counts": dict(tasks),
            "bandwidth": transfers.tell_bandwidth(),
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
            "time": now,
            "cpu": cpu,
            "memory": memory,
        }
        self._history.append((now, cpu, memory))
        self._count += 1
        for name, function in self._custom.items():
            try:
                found[name] = function(worker)
            except BaseException as raised:
                log_raised(logger, raised, "Could not read the metric %r", name)
        return found

    def recorded(self, recent: bool = False, start: int = 0) -> dict[str, Any]:
        """Readings of processor and memory at the heartbeats so far.

        Args:
            recent: only the latest.
            start: leave out so many, counted from the worker's start: the `count` of an earlier answer.

        Returns:
            `{"range_query": {name: readings}, "count": how many there were, "last_time": seconds}`
        """
        history = list(self._history)
        skipped = max(0, start - (self._count - len(history)))
        chosen = history[-1:] if recent else history[skipped:]
        times, cpu, memory = ([each[column] for each in chosen] for column in range(3))
        return {
            "range_query": {"time": times, "cpu": cpu, "memory": memory},
            "count": self._count,
            "last_time": history[-1][0] if history else 0.0,
        }

    def _cpu(self) -> float:
        now, used = time.monotonic(), time.process_time()
        before, used_before = self._last
        self._last = now, used
        elapsed = now - before
        return round(100 * (used - used_before) / elapsed, 1) if elapsed > 0 else 0.0


def add_gpu_metrics() -> None:
    """Have workers that are made from now on tell how busy their first graphics card is.

    Raises:
        ImportError: the package `pynvml` is not installed.
    """
    import pynvml

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)

    def read(worker: WorkerServer) -> dict[str, Any]:
        return {
            "utilization": pynvml.nvmlDeviceGetUtilizationRates(card).gpu,
            "memory-used": pynvml.nvmlDeviceGetMemoryInfo(card).used,
        }

    DEFAULT_METRICS["gpu"] = read
