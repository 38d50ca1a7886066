"""Results that were lost with their workers while this client fetched them: when that is no chance any more.

Counts nothing itself: the scheduler knows which workers died, and of what; this knows since when a result is fetched.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from headrace.common.keys import Key, from_wire
from headrace.exceptions import KilledWorkerServing

#: Keys that are kept in mind.
REMEMBERED = 10_000


class Losses:
    """Of one client."""

    def __init__(self) -> None:
        #: since when, on the monotonic clock, these are fetched in vain
        self._since: dict[Key, float] = {}

    def fetched(self, keys: Iterable[Key]) -> None:
        """Forget results that have come."""
        if self._since:
            for key in keys:
                self._since.pop(key, None)

    async def lost(self, ask: Callable[..., Awaitable[Any]], keys: list[Key], began: float) -> None:
        """A fetch that began at `began` (monotonic clock) has ended without these, since they are lost.

        Args:
            ask: asks the scheduler: `await ask("result_deaths", keys=…)`.

        Raises:
            KilledWorkerServing: workers have died of giving one of them away, more than are put down to chance.
        """
        if len(self._since) > REMEMBERED:
            self._since.clear()
        for key in keys:
            self._since.setdefault(key, began)
        answer = await ask("result_deaths", keys=keys)
        now = time.monotonic()
        for key, deaths in answer["deaths"].items():
            # Spans of two clocks: a death that a fetch caused was noted after it began, and before the answer.
            ago = now - self._since.get(key, began)
            recent = [death for death in deaths if death[0] <= ago]
            if len(recent) > answer["allowed"]:
                del self._since[key]
                _, address, cause = recent[-1]
                raise KilledWorkerServing(from_wire(key), address, answer["allowed"], cause)
