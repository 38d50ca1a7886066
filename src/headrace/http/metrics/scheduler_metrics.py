"""The metrics of a scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from headrace.scheduler.shell import HasShell

from .cluster_families import CLUSTER_TABLE, cluster_families
from .exposition import Exposition
from .extension_families import EXTENSION_TABLE, extension_families
from .metric_families import Described, MetricFamily
from .server_families import lock_table, server_families, server_table
from .task_families import TASK_TABLE, seconds_spent, task_families
from .text_formats import PLAIN
from .workers_together import ask_workers, join, render

#: Families that are there when the workers' metrics are asked for as well.
TOGETHER_TABLE = (
    Described("scheduler_workers_not_scraped", "gauge", "Workers whose metrics are missing in this answer"),
)
SCHEDULER_TABLE = (*CLUSTER_TABLE, *TASK_TABLE, *EXTENSION_TABLE, *server_table("scheduler"))


class SchedulerMetrics:
    """Gives the text of a scheduler's metrics.

    Args:
        scheduler: whose.
    """

    def __init__(self, scheduler: HasShell) -> None:
        self._shell = scheduler.shell
        self._exposition = Exposition(self._families, SCHEDULER_TABLE, TOGETHER_TABLE, lock_table("scheduler"))
        self._busy = 0.0

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The text of now, and its type. On the scheduler's loop.

        Args:
            accept: the header `Accept` of the request; OpenMetrics if it asks for that, else plain text.
        """
        return self._exposition.text(accept)

    async def text_with_workers(self, accept: str = "", timeout: float = 5.0) -> tuple[bytes, str]:
        """The same as plain text, with the metrics of all workers, which have their address in a label `worker`.

        Workers that do not answer in time are left out, and counted in `scheduler_workers_not_scraped`.

        Args:
            accept: the header `Accept` of the request, whatever it asks for; see `WorkerMetrics.text`.
            timeout: seconds that the workers have, all together.
        """
        addresses = list(self._shell.core.workers)
        answers = await ask_workers(self._shell.worker_rpc, addresses, timeout)
        missing = self._exposition.catalogue.family(
            "scheduler_workers_not_scraped", [((), len(addresses) - len(answers))]
        )
        own = self._exposition.plain([missing])
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(None, lambda: render(join(own, answers)))
        return text, PLAIN

    def _families(self) -> Iterator[MetricFamily]:
        shell, catalogue = self._shell, self._exposition.catalogue
        now, spent = shell.now(), seconds_spent(shell.core)
        # what runs may be lost with its worker, and nevertheless counters do not fall
        self._busy = max(self._busy, spent.busy)
        yield from cluster_families(catalogue, shell, now, self._busy)
        yield from task_families(catalogue, shell.core, now, spent)
        yield from extension_families(catalogue, shell)
        yield from server_families(catalogue, "scheduler", shell.facade)
