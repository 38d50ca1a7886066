"""Log lines about what peers do wrong: one a second for each host and kind, and how many there were beside.

Whoever sends garbage decides how much of it, and must not decide how long the log gets. Knows no connections.
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
#: Characters of a line.
LONGEST_LINE = 2000
#: Hosts and kinds that are remembered; beyond, the oldest are forgotten, and may be told of again at once.
MOST_REMEMBERED = 1000


class _Said:
    """What was said last about one host and kind, when, and how often it was not said since."""

    __slots__ = ("at", "left_out", "text")

    def __init__(self, at: float) -> None:
        self.at = at
        self.left_out = 0
        self.text = ""


class Complaints:
    """Says what is wrong with peers, on one logger. Any thread; with a running loop, what was left out is told after
    a second, else with the next line.

    Args:
        logger: where.
        clock: monotonic seconds.
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
        """Log a line, unless there was one of its kind about this peer's host within the last second.

        Args:
            kind: what the line is about, in words of ours: never anything that the peer chose.
            address: of the peer.
            text, args: as for a logger.
            error: shown with its traceback.
        """
        key = (_host(address), kind)
        now = self._clock()
        with self._lock:
            said = self._said.get(key)
            if said is not None and now - said.at < SECONDS:
                said.left_out += 1
                said.text = _one_line(text % args)
                self._arm()
                return
            left_out = said.left_out if said is not None else 0
            self._said.pop(key, None)  # the latest is the last one
            self._said[key] = _Said(now)
            while len(self._said) > MOST_REMEMBERED:
                del self._said[next(iter(self._said))]
        line = _one_line(text % args)
        if left_out:
            line += f" ({left_out} more like this before)"
        self._logger.log(level, "%s", line, exc_info=error)

    def _arm(self) -> None:
        """Have what was left out told in a second."""
        loop = asyncio._get_running_loop()
        if loop is not None and self._loop is not loop:
            self._loop = loop
            loop.call_later(SECONDS, self.catch_up)

    def catch_up(self) -> None:
        """Tell what was left out and a second old."""
        now = self._clock()
        lines = []
        with self._lock:
            self._loop = None
            for key, said in list(self._said.items()):
                if now - said.at < SECONDS:
                    continue
                del self._said[key]
                if said.left_out:
                    self._said[key] = _Said(now)
                    lines.append(f"{said.text} (the last of {said.left_out} more like this)")
            if any(said.left_out for said in self._said.values()):
                self._arm()
        for line in lines:
            self._logger.warning("%s", line)


def _one_line(text: str) -> str:
    """What peers send may be in it, and is not to look like lines of ours."""
    text = text if len(text) <= LONGEST_LINE else text[:LONGEST_LINE] + "…"
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _host(address: str) -> str:
    try:
        return get_address_host(address)
    except (ValueError, TypeError):
        return address
