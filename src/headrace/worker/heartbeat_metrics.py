"""A worker's report about itself in every heartbeat: load, memory, and how its tasks are doing."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from headrace.containment import log_raised

if TYPE_CHECKING:
    from .server import WorkerServer

#: Readings of every worker that is made from now on, by name; called with the worker.
DEFAULT_METRICS: dict[str, Callable[[Any], Any]] = {}

logger = logging.getLogger("distributed.worker")


class Metrics:
    """Readings of one worker and its process.

    Args:
        custom: functions of the user's by name, called with the worker; they may be asynchronous.
    """

    def __init__(self, worker: WorkerServer, custom: dict[str, Callable[[Any], Any]]) -> None:
        self._worker = worker
        self.custom = custom
        self._awaited: dict[str, Any] = {}
        self._underway: dict[str, asyncio.Task[None]] = {}

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
        reading = worker.monitor.update()
        found: dict[str, Any] = {
            "task_counts": dict(tasks),
            "bandwidth": transfers.tell_bandwidth(),
            "managed_bytes": state.nbytes,
            "spilled_bytes": worker.memory_manager.spilled(),
            "transfer": {
                "incoming_bytes": state.transfer_incoming_bytes,
                "incoming_count": state.transfer_incoming_count,
                "incoming_count_total": state.transfer_incoming_count_total,
                "outgoing_bytes": transfers.outgoing_bytes,
                "outgoing_count": transfers.outgoing_count,
                "outgoing_count_total": transfers.outgoing_total,
                "outgoing_bytes_total": transfers.sent,
            },
            "event_loop_interval": worker.loop_interval(),
            "executing": state.executing_count,
            "in_memory": state.in_memory,
            "in_flight": len(state.in_flight_tasks),
            "ready": len(state.ready),
        }
        for name, value in reading.items():  # those of one kind, such as `host_net_io.read_bps`, go together
            kind, _, which = name.partition(".")
            if which:
                found.setdefault(kind, {})[which] = value
            else:
                found[name] = value
        for name, function in self.custom.items():
            try:
                value = function(worker)
            except BaseException as raised:
                log_raised(logger, raised, "Could not read the metric %r", name)
                continue
            if inspect.isawaitable(value):
                self._begin(name, value)
                if name in self._awaited:
                    found[name] = self._awaited[name]
            else:
                found[name] = value
        return found

    async def read_awaited(self) -> dict[str, Any]:
        """The same, with what asynchronous functions return now instead of at the last heartbeat."""
        found = self.read()
        if self._underway:
            await asyncio.wait(self._underway.values())
            found.update(self._awaited)
        return found

    def _begin(self, name: str, value: Awaitable[Any]) -> None:
        """Await a reading, whose value the next heartbeat tells: a heartbeat waits for nothing."""
        if name in self._underway:  # heartbeats come faster than it answers: one at a time
            _discard(value)
            return

        def ended(task: asyncio.Task[None]) -> None:
            del self._underway[name]
            _discard(value)  # the worker may have closed before it began

        self._underway[name] = task = self._worker.run_in_background(self._await(name, value))
        task.add_done_callback(ended)

    async def _await(self, name: str, value: Awaitable[Any]) -> None:
        try:
            self._awaited[name] = await value
        except asyncio.CancelledError:
            raise
        except BaseException as raised:
            self._awaited.pop(name, None)
            log_raised(logger, raised, "Could not read the metric %r", name, awaited=True)

    def recorded(self, recent: bool = False, start: int = 0) -> dict[str, Any]:
        """Readings of the system at the heartbeats so far.

        Args:
            recent: only the latest, and not in lists.
            start: leave out so many, counted from the worker's start: the `count` of an earlier answer.

        Returns:
            `{"range_query": {name: readings}, "count": how many there were, "last_time": monotonic seconds}`; for the
            names see `SystemMonitor`.
        """
        monitor = self._worker.monitor
        return {
            "range_query": monitor.recent() if recent else monitor.range_query(start),
            "count": monitor.count,
            "last_time": monitor.last_time,
        }


def _discard(value: Awaitable[Any]) -> None:
    if inspect.iscoroutine(value):
        value.close()


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
