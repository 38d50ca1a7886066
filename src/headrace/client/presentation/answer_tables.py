"""Answers of a client about the cluster: dictionaries that notebooks show as tables."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, NamedTuple

from headrace.common.display.cluster_html import render_scheduler
from headrace.common.display.html import (
    card,
    code,
    fold,
    join,
    short,
    table,
)

__all__ = ["HasWhat", "LogLine", "SchedulerInfo", "WhoHas"]

#: Rows that are shown, keys of a row, and the characters of a key.
ROWS, KEYS, LENGTH = 50, 100, 120


class HasWhat(dict[str, Any]):
    """{address: keys}: what each worker holds."""

    def _repr_html_(self) -> str:
        rows = [
            [code(address, wrap=False), f"{len(keys):,}", fold("Keys", _listed(keys), above=0) if keys else ""]
            for address, keys in list(self.items())[:ROWS]
        ]
        return card("Who holds what", table(["Worker", "Results", ""], rows, len(self) - len(rows)))


class WhoHas(dict[Any, Any]):
    """{key: addresses}: the workers that hold each result."""

    def _repr_html_(self) -> str:
        rows = [
            [code(short(key, LENGTH)), len(addresses), join([code(each, wrap=False) for each in addresses], ", ")]
            for key, addresses in list(self.items())[:ROWS]
        ]
        return card("Who holds each result", table(["Key", "Copies", "Workers"], rows, len(self) - len(rows)))


class SchedulerInfo(dict[str, Any]):
    """A scheduler's description of itself and of its workers; see `Client.scheduler_info`."""

    def _repr_html_(self) -> str:
        return render_scheduler(self, time.time())


class LogLine(NamedTuple):
    """A line that a task printed or logged.

    Attributes:
        time: when, in seconds since the epoch by the worker's clock.
        worker: the worker's address.
        source: "stdout", "stderr", or the name of a logger.
        level: the level of a logger's record, such as "INFO"; empty for printed lines.
        text: without the end of the line.
    """

    time: float
    worker: str
    source: str
    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.level} {self.source}: {self.text}" if self.level else self.text


def _listed(keys: Collection[object]) -> str:
    shown = [code(short(key, LENGTH)) for key in list(keys)[:KEYS]]
    more = [f"… and {len(keys) - len(shown):,} more"] if len(keys) > len(shown) else []
    return join([*shown, *more], "<br>")
