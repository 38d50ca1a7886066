"""The metrics of a nanny: of the worker's process that it keeps."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.machine import process_memory
from headrace.nanny.server import NannyServer

from .exposition import Exposition
from .families import Described, Family
from .server_families import server_families, server_table

NANNY_TABLE = (
    Described("nanny_worker_alive", "gauge", "1 while the worker's process runs, else 0"),
    Described("nanny_worker_starts_total", "counter", "Processes that were started for the worker"),
    Described("nanny_worker_restarts_total", "counter", "Of these, those that followed another"),
    Described(
        "nanny_worker_ends_total",
        "counter",
        "Processes of the worker that have ended, by cause: memory, asked, closed, restart, failed, not-started, exit, "
        "or the name of the signal",
        ("cause",),
    ),
    Described("nanny_worker_memory_kills_total", "counter", "Processes that were killed because they took too much"),
    Described("nanny_worker_memory_bytes", "gauge", "Memory that the worker's process takes"),
    Described("nanny_worker_memory_limit_bytes", "gauge", "Memory that it may take; 0 for no limit"),
    *server_table("nanny"),
)


class NannyMetrics:
    """Gives the text of a nanny's metrics.

    Args:
        nanny: whose.
    """

    def __init__(self, nanny: NannyServer) -> None:
        self._nanny = nanny
        self._exposition = Exposition(self._families, NANNY_TABLE)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The text of now, and its type. On the nanny's loop.

        Args:
            accept: the header `Accept` of the request; OpenMetrics if it asks for that, else plain text.
        """
        return self._exposition.text(accept)

    def _families(self) -> Iterator[Family]:
        nanny, family = self._nanny, self._exposition.catalogue.family
        alive = nanny.is_alive()
        yield family("nanny_worker_alive", [((), alive)])
        yield family("nanny_worker_starts_total", [((), nanny.starts)])
        yield family("nanny_worker_restarts_total", [((), max(0, nanny.starts - 1))])
        yield family("nanny_worker_ends_total", [((cause,), count) for cause, count in nanny.ends.items()])
        yield family("nanny_worker_memory_kills_total", [((), nanny.ends.get("memory", 0))])
        memory = process_memory(nanny.pid) if alive and nanny.pid is not None else 0
        yield family("nanny_worker_memory_bytes", [((), memory)])
        yield family("nanny_worker_memory_limit_bytes", [((), nanny.memory_limit or 0)])
        yield from server_families(self._exposition.catalogue, "nanny", nanny)
