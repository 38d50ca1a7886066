"""Log lines about faults of peers: one a second for each peer and kind of fault, with the number of those left out.

A peer may open a new connection for each of its faults; so all peers of a host share a budget of a few lines at once.

A peer that sends garbage decides how much it sends, and must not decide how long the log gets. Knows no connections.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from .addressing import get_address_host

#: Seconds between two lines of one kind about one host.
SECONDS = 1.0
#: Lines of one kind about several peers of one host at once, after as many seconds without any.
AT_ONCE = 5
#: Characters of a line.
LONGEST_LINE = 2000
#: Hosts and kinds that are remembered; beyond, the oldest are forgotten, and may get another line at once.
MOST_REMEMBERED = 1000


class _Said:
    """The latest line about one host and kind of fault, and the number of lines left out since.

    Attributes:
        at: time of the latest line, in monotonic seconds.
        address: the peer of the latest line.
        lines_left: lines that the host may still get now.
        left_out: lines left out since.
        text: the latest line that was left out.
    """

    __slots__ = ("address", "at", "left_out", "lines_left", "text")

    def __init__(self, at: float) -> None:
        self.at = at
        self.address: str | None = None
        self.lines_left = float(AT_ONCE)
        self.left_out = 0
        self.text = ""

    def allows(self, address: str, now: float) -> bool:
        """Whether a line about a peer may be logged now; if so, the line is counted."""
        elapsed = now - self.at
        if elapsed < SECONDS and (address == self.address or self.lines_left + elapsed / SECONDS < 1):
            return False
        self.lines_left = min(AT_ONCE, self.lines_left + elapsed / SECONDS) - 1
        self.address, self.at = address, now
        return True


class Complaints:
    """Logs faults of peers on one logger, from any thread.

    With a running loop, the number of lines left out is logged after a second; without one, with the next line.

    Args:
        logger: gets the lines.
        clock: gives monotonic seconds.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._said: dict[tuple[str, str], _Said] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def say(
        self,
        kind: str,
        address: str,
        text: str,
        *args: object,
        level: int = logging.WARNING,
        error: BaseException | None = None,
    ) -> None:
        """Log a line, unless there was one of its kind about this peer, or several about its host, a moment ago.

        Args:
            kind: the kind of fault, in our own words: nothing that the peer chose.
            address: the peer's.
            text, args: as for a logger.
            error: an exception to log with its traceback.
        """
        key = (_host(address), kind)
        now = self._clock()
        with self._lock:
            said = self._said.pop(key, None) or _Said(now)
            self._said[key] = said  # the latest is the last one
            if not said.allows(address, now):
                said.left_out += 1
                said.text = _one_line(text % args)
                self._arm()
                return
            left_out, said.left_out = said.left_out, 0
            while len(self._said) > MOST_REMEMBERED:
                del self._said[next(iter(self._said))]
        line = _one_line(text % args)
        if left_out:
            line += f" ({left_out} more like this before)"
        self._logger.log(level, "%s", line, exc_info=error)

    def _arm(self) -> None:
        """Have `catch_up` called in a second, if a loop runs."""
        loop = asyncio._get_running_loop()
        if loop is not None and self._loop is not loop:
            self._loop = loop
            loop.call_later(SECONDS, self.catch_up)

    def catch_up(self) -> None:
        """Log the lines that were left out, once the latest line about their host is a second old."""
        now = self._clock()
        lines = []
        with self._lock:
            self._loop = None
            for key, said in list(self._said.items()):
                if now - said.at < SECONDS:
                    continue
                if said.left_out:
                    lines.append(f"{said.text} (the last of {said.left_out} more like this)")
                    said.at, said.left_out = now, 0
                elif now - said.at > AT_ONCE * SECONDS:
                    del self._said[key]
            if any(said.left_out for said in self._said.values()):
                self._arm()
        for line in lines:
            self._logger.warning("%s", line)


def _one_line(text: str) -> str:
    """The text on one line, cut to `LONGEST_LINE`: parts that a peer sent must not look like log lines of ours."""
    text = text if len(text) <= LONGEST_LINE else text[:LONGEST_LINE] + "…"
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _host(address: str) -> str:
    try:
        return get_address_host(address)
    except (ValueError, TypeError):
        return address
