"""The card by which a notebook shows a worker in its own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.display.cluster_html import status_colour
from headrace.common.display.html import (
    Html,
    card,
    code,
    facts,
    meter,
)
from headrace.common.display.units import bytes_in_words

if TYPE_CHECKING:
    from .server import WorkerServer


def worker_html(worker: WorkerServer) -> Html:
    """A card: where it is, how big, and what it does."""
    state, status = worker.core, worker.status.name
    held, limit = state.nbytes, worker.memory_limit
    size = f"{bytes_in_words(held)}{f' / {bytes_in_words(limit)}' if limit else ''}"
    values = {
        "Address": code(worker.address_safe),
        "Scheduler": code(worker.scheduler_address),
        "Threads": worker.nthreads,
        "Results": meter(held, limit or 0, size),
        "Stored": f"{len(worker.data):,}",
        "Running": f"{state.executing_count:,}",
        "Ready": f"{len(state.ready):,}",
        "Waiting": f"{len(state.waiting):,}",
        "Nanny": code(worker.nanny) if worker.nanny else None,
        "Directory": code(worker.local_directory) if worker.local_directory else None,
    }
    name = "" if worker.name is None else str(worker.name)
    return card("Worker", facts(values), subtitle=name, status=status, colour=status_colour(status))
