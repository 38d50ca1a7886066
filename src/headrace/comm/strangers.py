"""Keeps those whose connections come to nothing from taking the time of the others.

A connection that is not admitted costs its listener a few tenths of a millisecond. A host that makes many of these gets
its connections closed as soon as they are accepted, for as long as it goes on; the users of this machine count as
hosts of their own. Knows no sockets.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: Connections that may come to nothing from one host at once, and a second.
AT_ONCE, A_SECOND = 50.0, 10.0
#: Hosts that are remembered; beyond, the oldest are forgotten.
MOST_REMEMBERED = 10_000
#: Connections whose opening may be under way at a time at one listener; beyond, the oldest gives way.
MOST_OPENING = 500


class Strangers:
    """How much patience is left with each host.

    Args:
        clock: gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: patience left, and when that was
        self._left: dict[object, tuple[float, float]] = {}

    @property
    def any(self) -> bool:
        """Whether a connection has come to nothing lately; if not, nobody is shut out."""
        return bool(self._left)

    def note_failure(self, host: object) -> None:
        """Count a connection that came to nothing."""
        left = self._patience_with(host) - 1
        self._left.pop(host, None)
        self._left[host] = (max(left, -1.0), self._clock())  # the latest is the last one
        while len(self._left) > MOST_REMEMBERED:
            del self._left[next(iter(self._left))]

    def are_shut_out(self, host: object) -> bool:
        """Whether connections from a host are to be closed at once."""
        if host not in self._left:
            return False
        left = self._patience_with(host)
        if left >= AT_ONCE:
            del self._left[host]
        return left < 0

    def _patience_with(self, host: object) -> float:
        left, since = self._left.get(host, (AT_ONCE, 0.0))
        return min(AT_ONCE, left + (self._clock() - since) * A_SECOND)
