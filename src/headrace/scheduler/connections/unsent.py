"""The bytes that wait to be read by a client, and when they are too many. Pure: the time is an argument."""

from __future__ import annotations

#: Bytes that may wait for `STALL_SECONDS` without getting less; more than `MOST_UNSENT` may not wait at all. Else its
#: connection is broken.
UNSENT_BYTES = 64 << 20
STALL_SECONDS = 5.0
MOST_UNSENT = 4 * UNSENT_BYTES


class Unsent:
    """Judges whether too many bytes wait to be read by a client.

    Args:
        now: monotonic seconds.
        returned: whether it is back after its connection broke. Then it is told at once what it has missed, however
            much that is: dropped for that, it would only come back again.
    """

    __slots__ = ("_before", "_grows_since", "_limit", "_returned_at")

    def __init__(self, now: float, returned: bool) -> None:
        self._returned_at = now if returned else float("-inf")
        self._limit = MOST_UNSENT
        self._before = 0
        self._grows_since = now

    def is_too_much(self, nbytes: int, now: float) -> bool:
        """To be called with how much it is, before more is sent, and once when it is little again."""
        before, self._before = self._before, nbytes
        if nbytes <= UNSENT_BYTES:
            return False
        if now - self._returned_at < STALL_SECONDS:
            self._limit = max(self._limit, nbytes + MOST_UNSENT)
        if before <= UNSENT_BYTES or nbytes < before:  # it reads, and faster than it is sent to
            self._grows_since = now
        return now - self._grows_since >= STALL_SECONDS or nbytes > self._limit
