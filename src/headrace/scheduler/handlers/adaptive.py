"""How many workers the work at hand calls for. Reads the state, and changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any

from headrace.config import get, parse_seconds
from headrace.scheduler.base import SchedulerBase
from headrace.scheduler.state.tasks import TaskState

#: Share of the workers' memory above which results call for more workers.
_FULL = 0.6
#: Tasks without a worker whose expected time is looked up; the rest is taken to be like them.
_SAMPLE = 1000


class AdaptiveHandlers(SchedulerBase):
    """`adaptive_target`."""

    workers_to_close: Callable[..., list[Any]]

    def adaptive_target(self, target_duration: Any = None) -> int:
        """The number of workers that would do the work at hand in some time.

        Args:
            target_duration: that time, in seconds or as text; `distributed.adaptive.target-duration` by default.
        """
        if not self.tasks:
            return 0
        if target_duration is None:
            target_duration = get("distributed.adaptive.target-duration")
        workers = self.workers.values()
        waiting = len(self.queued) + len(self.unrunnable)
        seconds = self.total_occupancy + self._expected_seconds()
        ready = waiting + sum(len(worker.processing) for worker in workers)
        wanted = min(ready, math.ceil(seconds / parse_seconds(target_duration)))
        if waiting and not self.workers:
            wanted = max(1, wanted)
        if self.workers:
            wanted = math.ceil(wanted / max(1, self.total_nthreads / len(self.workers)))
            limit = self.total_memory
            if limit and sum(worker.nbytes for worker in workers) > _FULL * limit:
                wanted = max(wanted, 2 * len(self.workers))
        return max(wanted, len(self.workers) - len(self.workers_to_close()))

    def _expected_seconds(self) -> float:
        """Of the tasks that no worker has yet."""
        first = self.queued.peek()
        queued = len(self.queued) * self._duration(first) if first is not None else 0.0
        sample = [self._duration(task) for task in islice(self.unrunnable, _SAMPLE)]
        return queued + (sum(sample) / len(sample) * len(self.unrunnable) if sample else 0.0)

    def _duration(self, task: TaskState) -> float:
        average = task.group.prefix.duration_average
        return average if average >= 0 else self.state.options.unknown_duration
