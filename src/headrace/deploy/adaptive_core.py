"""Decides the number of workers, from those planned, requested and observed: when to add some, and which to close.

Pure apart from the methods of subclasses and the times in the log: knows neither a cluster nor a scheduler, and starts
nothing.
"""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

logger = logging.getLogger("distributed.deploy.adaptive")

#: Decisions remembered in `AdaptiveCore.log`.
_LOG_LENGTH = 1000


def check_bounds(minimum: float, maximum: float, wait_count: float) -> None:
    """Refuse bounds between which no number of workers lies.

    Raises:
        TypeError: a bound is no integer (`maximum` may be infinite).
        ValueError: a bound is negative, or `maximum` is less than `minimum`.
    """
    for name, value in {"minimum": minimum, "maximum": maximum, "wait_count": wait_count}.items():
        if name == "maximum" and value == math.inf:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            if isinstance(value, float) and name == "maximum":
                raise ValueError(f"maximum must be an integer or math.inf, not {value!r}")
            raise TypeError(f"{name} must be an integer, not {value!r}")
        if value < 0:
            raise ValueError(f"{name} must not be negative, and is {value}")
    if maximum < minimum:
        raise ValueError(f"maximum ({maximum}) must not be less than minimum ({minimum})")


class AdaptiveCore(ABC):
    """Decides at each call of `adapt` how many workers there should be.

    Subclasses give the names of the workers that are to be there (`plan`), that were asked for (`requested`), and that
    are there (`observed`); and the methods `target`, `scale_up`, `scale_down` and, to choose well, `workers_to_close`.

    Args:
        minimum: workers to keep at least.
        maximum: workers to have at most.
        wait_count: a worker is closed when it was suggested so many times in a row.

    Attributes:
        close_counts: how often in a row each worker was suggested, by name.
        log: the latest decisions: (time, recommendation).

    Raises:
        TypeError, ValueError: see `check_bounds`.
    """

    def __init__(self, minimum: int = 0, maximum: float = math.inf, wait_count: int = 3) -> None:
        check_bounds(minimum, maximum, wait_count)
        self.minimum = minimum
        self.maximum = maximum
        self.wait_count = wait_count
        self.close_counts: Counter[Any] = Counter()
        self.log: deque[tuple[float, dict[str, Any]]] = deque(maxlen=_LOG_LENGTH)
        self._adapting = False

    @property
    @abstractmethod
    def plan(self) -> set[Any]:
        """Names of the workers that are to be there."""

    @property
    @abstractmethod
    def requested(self) -> set[Any]:
        """Names of the workers that were asked for, whether they have come or not."""

    @property
    @abstractmethod
    def observed(self) -> set[Any]:
        """Names of the workers that the scheduler has."""

    @abstractmethod
    async def target(self) -> int:
        """The number of workers that there should be, bounds aside."""

    async def workers_to_close(self, target: int) -> list[Any]:
        """Names of workers to close so that `target` of those observed stay: any, unless a subclass knows better."""
        return list(self.observed)[target:]

    @abstractmethod
    async def scale_up(self, n: int) -> None:
        """Ask for workers, so that there are `n`, more than are planned."""

    @abstractmethod
    async def scale_down(self, workers: Iterable[Any]) -> None:
        """Close these workers."""

    async def safe_target(self) -> int:
        """`target`, within the bounds."""
        return int(max(self.minimum, min(self.maximum, await self.target())))

    async def recommendations(self, target: int) -> dict[str, Any]:
        """The next step towards `target` workers.

        Returns:
            `{"status": "same"}`, `{"status": "up", "n": number}` or `{"status": "down", "workers": list}`.
        """
        plan = self.plan
        if target >= len(plan):
            self.close_counts.clear()
            return {"status": "up", "n": target} if target > len(plan) else {"status": "same"}
        suggested = await self._surplus(plan, target)
        for name in set(self.close_counts) - suggested:
            del self.close_counts[name]
        self.close_counts.update(suggested)
        firm = [name for name in suggested if self.close_counts[name] >= self.wait_count]
        for name in firm:
            del self.close_counts[name]
        return {"status": "down", "workers": firm} if firm else {"status": "same"}

    async def _surplus(self, plan: set[Any], target: int) -> set[Any]:
        """Workers to do without. Those that have not come yet are chosen first, as to cancel them costs nothing."""
        count = len(plan) - target
        awaited = self.requested - self.observed
        chosen = set(islice(sorted(awaited & plan, key=str), count))
        if len(chosen) < count:
            chosen.update(await self.workers_to_close(target=target))
        return chosen

    async def adapt(self) -> None:
        """Look, decide and scale, once; does nothing while an earlier call has not ended."""
        if self._adapting:
            return
        self._adapting = True
        try:
            recommendation = await self.recommendations(await self.safe_target())
            if recommendation["status"] == "same":
                return
            self.log.append((time.time(), recommendation))
            if recommendation["status"] == "up":
                logger.info("Adaptive scaling up to %d workers", recommendation["n"])
                await self.scale_up(recommendation["n"])
            else:
                logger.info("Adaptive scaling down: closing %s", recommendation["workers"])
                await self.scale_down(recommendation["workers"])
        finally:
            self._adapting = False
