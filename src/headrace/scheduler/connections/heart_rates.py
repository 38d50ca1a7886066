"""How often workers say that they live: the more there are, the more rarely, so that idle workers cost little.

Workers are told when they register, and all of them by one message each when their number has changed that much.
"""

from __future__ import annotations

import math

from headrace.messages.worker import HeartbeatInterval
from headrace.scheduler.shell import Shell

#: Workers are told anew of an interval that is longer by this factor, or as much shorter.
STEP = 1.25
#: Intervals are whole tenths of seconds, so that heartbeats of workers which come at the same moment stay together.
DIGITS = 1


def heartbeat_interval(n: int) -> float:
    """Seconds between heartbeats that `n` workers should keep: longer for many, so that the scheduler keeps up."""
    if n <= 10:
        return 0.5
    if n < 50:
        return 1
    if n < 200:
        return 2
    return n / 200 + 1


def following_interval(kept: float, n: int) -> float:
    """Seconds that `n` workers are to keep which keep `kept` now: the same, unless that is far from what it should be.

    It is made shorter only when it would be right for a quarter more workers than there are, so that it does not go up
    and down with each that comes and goes.
    """
    longer = round(heartbeat_interval(n), DIGITS)
    if longer >= STEP * kept:
        return longer
    shorter = round(heartbeat_interval(math.ceil(STEP * n)), DIGITS)
    return shorter if shorter <= kept / STEP else kept


class HeartRates:
    """The interval that the workers of one scheduler keep.

    Attributes:
        interval: seconds between two heartbeats of a worker, as all have been told that were not made with another one.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self.interval = heartbeat_interval(0)

    def follow(self) -> None:
        """Adapt the interval to the number of workers, which has changed."""
        interval = following_interval(self.interval, len(self._shell.core.workers))
        if interval != self.interval:
            self.interval = interval
            for stream in self._shell.worker_streams.values():
                stream.send(HeartbeatInterval(interval))
