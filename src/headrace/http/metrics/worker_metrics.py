"""The metrics of a worker."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from headrace.common.status import Status
from headrace.worker.server import WorkerServer
from headrace.worker.state.core import WorkerCore

from .exposition import Exposition
from .metric_families import Described, MetricFamily, Row
from .server_families import lock_table, server_families, server_table

_ACTIVITY = ("activity",)

WORKER_TABLE = (
    Described("worker_tasks", "gauge", "Tasks and results on the worker, by state", ("state",)),
    Described("worker_tasks_executed_total", "counter", "Runs of tasks that returned a result"),
    Described("worker_tasks_failed_total", "counter", "Runs of tasks that raised"),
    Described(
        "worker_compute_seconds_total", "counter", "Time that runs of tasks have taken, those that go on now among them"
    ),
    Described("worker_threads", "gauge", "Threads that run tasks"),
    Described(
        "worker_thread_seconds_total", "counter", "Time that these threads have been there, busy or not, all together"
    ),
    Described("worker_paused", "gauge", "1 while the worker starts no tasks because it is paused, else 0"),
    Described("worker_latency_seconds", "gauge", "Time from the worker's last registration to the scheduler's answer"),
    Described(
        "worker_memory_bytes",
        "gauge",
        "Memory: results in memory, what the process takes besides, and results on disk",
        ("type",),
    ),
    Described("worker_memory_limit_bytes", "gauge", "Memory that the worker may take; 0 for no limit"),
    Described("worker_transfer_incoming_bytes", "gauge", "Size of the data that are being fetched from other workers"),
    Described("worker_transfer_incoming_count", "gauge", "Workers from which data are being fetched"),
    Described("worker_transfer_incoming_count_total", "counter", "Requests for data to other workers so far"),
    Described("worker_transfer_incoming_bytes_total", "counter", "Size of the data that have come from other workers"),
    Described("worker_transfer_outgoing_bytes", "gauge", "Size of the data that are being sent"),
    Described("worker_transfer_outgoing_count", "gauge", "Requests for data that are being answered"),
    Described("worker_transfer_outgoing_bytes_total", "counter", "Size of the data that have been sent"),
    Described("worker_transfer_outgoing_count_total", "counter", "Requests for data that have been answered"),
    Described(
        "worker_spill_bytes_total",
        "counter",
        "Size of the results that were found in memory, read and written",
        _ACTIVITY,
    ),
    Described("worker_spill_count_total", "counter", "Results that were found in memory, read and written", _ACTIVITY),
    Described(
        "worker_spill_time_seconds_total",
        "counter",
        "Time that was spent on bringing results to disk and back",
        _ACTIVITY,
    ),
    *server_table("worker"),
)


class WorkerMetrics:
    """Gives the text of a worker's metrics.

    Args:
        worker: whose.
    """

    def __init__(self, worker: WorkerServer) -> None:
        self._worker = worker
        self._computed = 0.0
        self._exposition = Exposition(self._families, WORKER_TABLE, lock_table("worker"), open_metrics=False)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The text of now, and its type. On the worker's loop.

        Args:
            accept: the header `Accept` of the request. The answer is plain text, whatever it asks for: the documented
                names of transfers are not possible in OpenMetrics.
        """
        return self._exposition.text(accept)

    def plain(self) -> list[Any]:
        """The same of lists, texts and numbers; see `Exposition.plain`."""
        return self._exposition.plain()

    def _families(self) -> Iterator[MetricFamily]:
        worker, core, transfers = self._worker, self._worker.core, self._worker.transfers
        buffer = worker.memory_manager.buffer
        executor = getattr(worker, "task_executor", None)
        age = time.monotonic() - executor.began if executor is not None else 0.0
        states = task_states(core, buffer.disk_count if buffer is not None else 0)
        family = self._exposition.catalogue.family
        yield family("worker_tasks", [((state,), count) for state, count in states.items()])
        for name, value in {
            "worker_tasks_executed_total": core.executed_count,
            "worker_tasks_failed_total": core.failed_count,
            "worker_compute_seconds_total": self._compute_seconds(),
            "worker_threads": worker.nthreads,
            "worker_thread_seconds_total": worker.nthreads * age,
            "worker_paused": worker.status is Status.paused,
            "worker_latency_seconds": worker.session.latency,
            "worker_memory_limit_bytes": worker.memory_manager.memory_limit or 0,
            "worker_transfer_incoming_bytes": core.transfer_incoming_bytes,
            "worker_transfer_incoming_count": core.transfer_incoming_count,
            "worker_transfer_incoming_count_total": core.transfer_incoming_count_total,
            "worker_transfer_incoming_bytes_total": transfers.received,
            "worker_transfer_outgoing_bytes": transfers.outgoing_bytes,
            "worker_transfer_outgoing_count": transfers.outgoing_count,
            "worker_transfer_outgoing_bytes_total": transfers.sent,
            "worker_transfer_outgoing_count_total": transfers.outgoing_total,
        }.items():
            yield family(name, [((), value)])
        yield family("worker_memory_bytes", [((kind,), nbytes) for kind, nbytes in self._memory().items()])
        spent: dict[tuple[str, str], float] = dict(getattr(worker.data, "cumulative_metrics", {}))
        for unit, what in (("bytes", "bytes"), ("count", "count"), ("seconds", "time_seconds")):
            rows: list[Row] = [((activity,), value) for (activity, of), value in spent.items() if of == unit]
            yield family(f"worker_spill_{what}_total", rows)
        yield from server_families(self._exposition.catalogue, "worker", worker)

    def _compute_seconds(self) -> float:
        """Seconds of runs so far; they never fall, though a run that goes on may be given up."""
        executor = getattr(self._worker, "task_executor", None)
        running = executor.executing(time.monotonic()) if executor is not None else {}
        self._computed = max(self._computed, self._worker.core.executed_seconds + sum(running.values()))
        return self._computed

    def _memory(self) -> dict[str, int]:
        worker = self._worker
        spilled = worker.memory_manager.spilled()
        managed = max(0, worker.core.nbytes - spilled["memory"])
        unmanaged = max(0, worker.memory_manager.process_memory() - managed)
        return {"managed": managed, "unmanaged": unmanaged, "spilled": spilled["disk"]}


def task_states(core: WorkerCore, on_disk: int) -> dict[str, int]:
    """How many tasks are in each state, of those that occur; results on disk have a state of their own.

    Most are counted as they move; tasks are gone over only if some are in one of the states that are not.
    """
    counted = {
        "memory": core.in_memory,
        "executing": len(core.executing),
        "long-running": len(core.long_running),
        "waiting": len(core.waiting),
        "flight": len(core.in_flight_tasks),
    }
    if sum(counted.values()) != len(core.tasks):
        counted = Counter(task.state for task in core.tasks.values())
    on_disk = min(on_disk, counted.get("memory", 0))
    counted["memory"] = counted.get("memory", 0) - on_disk
    counted["disk"] = on_disk
    return {state: count for state, count in counted.items() if count}
