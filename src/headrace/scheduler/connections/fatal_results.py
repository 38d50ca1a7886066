"""Deaths of workers that alone held results: for clients that fetch such a result again and again.

A worker near its memory limit may die of giving a result away, and the next one, which computes it anew, likewise. No
task runs then, so that none is suspected; the client, who knows what it was fetching, asks here and gives up in time.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from headrace.common.keys import Key
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell
from headrace.scheduler.state.records.workers import WorkerState

#: Deaths that are remembered, and of each the largest results that were lost with it: what may have been its cause.
DEATHS_KEPT = 200
RESULTS_KEPT = 100


class Death(NamedTuple):
    """A worker that died while it was the only one to hold some results.

    Attributes:
        time: when, on the monotonic clock.
        address, cause: of the worker.
        keys: the largest of those results.
    """

    time: float
    address: str
    cause: str
    keys: frozenset[Key]


class FatalResults:
    """Remembers deaths and answers for them."""

    def __init__(self, shell: Shell) -> None:
        self.core = shell.core
        self._deaths: deque[Death] = deque(maxlen=DEATHS_KEPT)

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {"result_deaths": Operation(self.result_deaths, repeatable=True)}

    def note_death(self, worker: WorkerState, cause: str) -> None:
        """A worker has died; to be called while it is still on record."""
        alone = [task for task in worker.has_what if len(task.who_has) == 1]
        if alone:
            largest = heapq.nlargest(RESULTS_KEPT, alone, key=lambda task: task.get_nbytes())
            self._deaths.append(
                Death(time.monotonic(), worker.address, cause, frozenset([task.key for task in largest]))
            )

    def result_deaths(self, keys: Iterable[Key]) -> dict[str, Any]:
        """Deaths that results were lost with.

        Returns:
            `{"allowed": deaths that are put down to chance, "deaths": {key: [(seconds ago, address, cause)]}}`, the
            latest last.
        """
        now = time.monotonic()
        deaths = {
            key: [(now - death.time, death.address, death.cause) for death in self._deaths if key in death.keys]
            for key in keys
        }
        return {"allowed": self.core.options.allowed_failures, "deaths": deaths}
