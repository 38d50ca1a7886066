"""Logs when an event loop did not respond for long: heartbeats and transfers were held up as well.

Interval and limit are configured under `distributed.admin.tick`. The watch costs a few wake-ups a second.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from headrace import config

logger = logging.getLogger("distributed.core")

#: The interval is at least this part of `limit`: more ticks would only measure the same delay more precisely.
PRECISION = 30
#: Seconds between two ticks at least, whatever is configured.
FINEST = 0.001


@dataclass(frozen=True, slots=True)
class TickOptions:
    """The times between ticks and between warnings.

    Attributes:
        interval: seconds between two ticks.
        finest: seconds between two ticks while somebody measures by them.
        limit: seconds late from which on a tick is worth a warning; 0 for never.
        cycle: seconds after a warning in which there is no other.
    """

    interval: float = 0.1
    limit: float = 3.0
    cycle: float = 1.0
    finest: float = 0.02

    @classmethod
    def from_config(cls) -> TickOptions:
        """The options as configured now."""
        values = config.get("distributed.admin.tick")
        limit = config.parse_seconds(values["limit"] or 0)
        interval = config.parse_seconds(values["interval"])
        return cls(
            interval=max(interval, limit / PRECISION),
            limit=limit,
            cycle=config.parse_seconds(values["cycle"]),
            finest=max(interval, FINEST),
        )


class Ticks:
    """Ticks on the running loop from `start` to `stop`, and logs a warning when one is late.

    Args:
        name: the loop's owner, for the warning.

    Attributes:
        count: how many ticks there have been.
    """

    def __init__(self, name: str, options: TickOptions | None = None) -> None:
        self.options = options or TickOptions.from_config()
        self._name = name
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._late = 0.0
        self._count = 0
        self._silent_until = 0.0
        self._interval = self.options.interval
        self._latest = 0.0
        self._started = False
        self.count = 0

    def start(self) -> None:
        """Begin to tick if a limit is set; else once somebody measures."""
        self._started = True
        if self._timer is None and self.options.limit > 0:
            self._schedule(asyncio.get_running_loop())

    def measure(self) -> float:
        """Most seconds that a tick has been late since this was last asked; one that is due by now counts as well.

        The first to ask has it tick as often as configured from then on: until then, nobody wants to know so exactly.
        On the loop.
        """
        loop = asyncio.get_running_loop()
        latest, self._latest = self._latest, 0.0
        if self._timer is not None:
            latest = max(latest, loop.time() - self._due)
        if self._started and (self._timer is None or self._interval > self.options.finest):
            self._interval = self.options.finest
            self._cancel()
            self._schedule(loop)
        return latest

    def stop(self) -> None:
        """Stop ticking."""
        self._started = False
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def mean_interval(self) -> float:
        """Seconds between two ticks on the average, since somebody asked last; as they are due before the first."""
        late, count = self._late, self._count
        self._late, self._count = 0.0, 0
        return self._interval + (late / count if count else 0.0)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + self._interval
        self._timer = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        late = now - self._due
        self.count += 1
        self._count += 1
        self._late += max(0.0, late)
        if late > self._latest:
            self._latest = late
        if 0 < self.options.limit <= late and now >= self._silent_until:
            self._silent_until = now + self.options.cycle
            logger.warning(
                "Event loop was unresponsive in %s for %.2fs. Something ran on it that should not have, or a task held "
                "the interpreter's lock (GIL) or the processor; meanwhile nothing was sent or received, and heartbeats "
                "were late",
                self._name,
                late,
            )
        self._schedule(loop)
