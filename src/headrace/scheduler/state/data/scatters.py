"""Scatterings: clients that are putting data on workers, and will say so when they have.

What is said of an earlier copy of the same key goes other ways, and may come later. So each scattering has a number,
which the copies carry; what was decided before it (`FreeKeys`, and the `ReleasedData` that answer them) has smaller
ones, and does not concern these copies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headrace.common.keys import Key

if TYPE_CHECKING:
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState

#: Seconds in which a client says what has become of a scattering, or gives up; workers ask after what they were given
#: no sooner.
OPEN_SECONDS = 300.0


class Scatters:
    """The numbers, and which keys clients are scattering now.

    Attributes:
        latest: number of the latest scattering.
        under_way: of each key that is being scattered, by number, when that began and which client does it.
        open_seconds: see `OPEN_SECONDS`.
    """

    def __init__(self) -> None:
        self.latest = 0
        self.under_way: dict[Key, dict[int, tuple[float, str]]] = {}
        self.open_seconds = OPEN_SECONDS

    def begin(self, keys: Iterable[Key], client: str, now: float) -> int:
        """A client is about to put these on workers; returns the number that the copies are to carry."""
        self._drop_old(now)
        self.latest += 1
        for key in keys:
            open_ones = self.under_way.pop(key, {})
            open_ones[self.latest] = (now, client)
            self.under_way[key] = open_ones  # the last now: they stay in the order of their latest
        return self.latest

    def _drop_old(self, now: float) -> None:
        """Drop the scatterings that clients began and never ended, because they died."""
        while self.under_way:
            key, open_ones = next(iter(self.under_way.items()))
            if max(open_ones.values())[0] >= now - self.open_seconds:
                return
            del self.under_way[key]

    def end(self, number: int) -> None:
        """The client has said where they are, or gives up; of what it began earlier it has not heard."""
        for key in [key for key, open_ones in self.under_way.items() if number in open_ones]:
            open_ones = self.under_way[key]
            _, client = open_ones[number]
            self._keep(key, {n: entry for n, entry in open_ones.items() if n > number or entry[1] != client})

    def known(self, key: Key, now: float) -> int:
        """The latest scattering of a key of which whoever decides about it now can know."""
        open_ones = self.under_way.get(key)
        if open_ones is None:
            return self.latest
        if min(open_ones.values())[0] < now - self.open_seconds:
            self._keep(key, {n: entry for n, entry in open_ones.items() if entry[0] >= now - self.open_seconds})
            return self.known(key, now)
        return min(open_ones) - 1

    def _keep(self, key: Key, open_ones: dict[int, tuple[float, str]]) -> None:
        if open_ones:
            self.under_way[key] = open_ones
        else:
            del self.under_way[key]


def note_scattered(task: TaskState, holders: Iterable[WorkerState], number: int) -> None:
    """Have the replicas of these workers carry a scattering's number."""
    task.rare.scattered = {**task.rare.scattered, **dict.fromkeys(holders, number)}


def is_stale(task: TaskState, worker: WorkerState, number: int) -> bool:
    """Whether news of a copy that is gone is about an earlier one than that on record."""
    rare = task._rare
    return rare is not None and number < rare.scattered.get(worker, 0)
