"""Measurements of code under test, captured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from headrace.compat.metrics import context_meter


@contextmanager
def captured_context_meter() -> Iterator[defaultdict[tuple[Hashable, ...], Any]]:
    """Within the context, sums of what `context_meter` is told, by `(label, unit)`; a tuple as label is spread out."""
    sums: defaultdict[tuple[Hashable, ...], Any] = defaultdict(int)

    def add(label: Hashable, value: float, unit: str) -> None:
        parts = label if isinstance(label, tuple) else (label,)
        sums[(*parts, unit)] += value

    with context_meter.add_callback(add):
        yield sums
