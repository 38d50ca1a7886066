"""How long threads of this process waited for the interpreter's lock (GIL), where `gilknocker` is installed to tell."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from headrace import config

LIBRARY = "gilknocker"


@dataclass(frozen=True, slots=True)
class LockOptions:
    """What is configured under `distributed.admin.system-monitor.gil`.

    Attributes:
        enabled: whether the lock is watched, if it can be.
        interval: seconds between two looks.
    """

    enabled: bool
    interval: float

    @classmethod
    def from_config(cls) -> LockOptions:
        """The options as configured now."""
        key = "distributed.admin.system-monitor.gil"
        return cls(config.truth(f"{key}.enabled"), config.parse_seconds(config.get(f"{key}.interval", "1ms")))


class LockContention:
    """Watches the lock in a thread of the library's, for as long as the process lives."""

    def __init__(self, interval: float) -> None:
        from gilknocker import KnockKnock

        self._knocker: Any = KnockKnock(max(1, round(interval * 1e6)))
        self._knocker.start()
        self._seconds = 0.0
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Seconds that the lock could not be had, since this was made."""
        now = time.monotonic()
        self._seconds += self._knocker.contention_metric * (now - self._since)
        self._since = now
        self._knocker.reset_contention_metric()
        return self._seconds


_of_this_process: LockContention | None = None


def can_be_watched() -> bool:
    """Whether the library is here, and the configuration does not forbid it."""
    return LockOptions.from_config().enabled and find_spec(LIBRARY) is not None


def contention_seconds() -> float:
    """Seconds that the lock could not be had in this process since this was first asked; see `can_be_watched`."""
    global _of_this_process
    if _of_this_process is None:
        _of_this_process = LockContention(LockOptions.from_config().interval)
    return _of_this_process.seconds()
