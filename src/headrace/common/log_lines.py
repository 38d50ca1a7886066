"""A line that a task printed or logged, as users get it."""

from __future__ import annotations

from typing import NamedTuple


class LogLine(NamedTuple):
    """What a task printed or logged.

    Attributes:
        time: when, in seconds since the epoch by the worker's clock.
        worker: the worker's address.
        source: "stdout", "stderr", or the name of a logger.
        level: that of a record of a logger, such as "INFO"; empty for what was printed.
        text: without the end of the line.
    """

    time: float
    worker: str
    source: str
    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.level} {self.source}: {self.text}" if self.level else self.text
