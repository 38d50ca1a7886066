"""`distributed.metrics`: `headrace.metrics`, and a ledger for code that is no single block."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from headrace.common.facade import names_before
from headrace.metrics import context_meter, perf_counter

__getattr__ = names_before(__name__, "headrace.metrics")


@dataclass
class DelayedMetricsLedger:
    """Keeps what is measured until it is known how to tell it: when code that is no single block has ended.

    Attributes:
        func: the clock, read when this is made and at the end.
        metrics: (label, value, unit) so far.
    """

    func: Callable[[], float] = perf_counter
    start: float = field(init=False)
    metrics: list[tuple[Hashable, float, str]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.start = self.func()

    @contextmanager
    def record(self, *, key: Hashable | None = None) -> Iterator[None]:
        """Keep what is measured in this context; for `key` see `ContextMeter.add_callback`."""

        def keep(label: Hashable, value: float, unit: str) -> None:
            self.metrics.append((label, value, unit))

        with context_meter.add_callback(keep, key=key):
            yield

    def finalize(
        self, coarse_time: str | Literal[False] = False, floor: float | Literal[False] = 0.0
    ) -> Iterator[tuple[Hashable, float, str]]:
        """The code has ended: yields what is to be told.

        Args:
            coarse_time: with a label, all seconds are told as one under it; otherwise each as it was measured, and the
                rest of the time as "other".
            floor: the least that counts for that one, or the rest; False for no such bound.
        """
        left = self.func() - self.start
        for label, value, unit in self.metrics:
            if unit != "seconds" or not coarse_time:
                yield label, value, unit
            if unit == "seconds" and not coarse_time:
                left -= value
        yield coarse_time or "other", left if floor is False else max(left, floor), "seconds"
