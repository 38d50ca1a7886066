"""The scheduler's half of `Event`: which names are set, and who waits for each."""

from __future__ import annotations

import itertools
from typing import Any

from headrace.comm import Comm
from headrace.config import parse_seconds

from ..waiting_requests import Waiting


class EventExtension:
    """Flags by name. Only those that are set, or waited for, take room."""

    def __init__(self, scheduler: Any) -> None:
        self.set_names: set[Any] = set()
        self.waiting = Waiting()
        self.scheduler_closing = self.waiting.close
        self._lines: dict[Any, set[int]] = {}
        self._numbers = itertools.count()
        scheduler.server.handlers.update(
            event_wait=self.event_wait,
            event_set=self.event_set,
            event_clear=self.event_clear,
            event_is_set=self.event_is_set,
        )

    async def event_wait(self, name: Any = None, timeout: float | str | None = None, comm: Comm | None = None) -> bool:
        """Wait until it is set; False when `timeout` seconds were not enough."""
        if name in self.set_names:
            return True
        seconds = None if timeout is None else parse_seconds(timeout)
        if seconds is not None and seconds <= 0:
            return False
        number = next(self._numbers)
        self._lines.setdefault(name, set()).add(number)
        try:
            return bool(await self.waiting.turn(number, comm, seconds))
        finally:
            line = self._lines.get(name)
            if line is not None:
                line.discard(number)
                if not line:
                    del self._lines[name]

    def event_set(self, name: Any = None) -> None:
        """Set it, and wake all who wait."""
        self.set_names.add(name)
        for number in self._lines.pop(name, ()):
            self.waiting.grant(number)

    def event_clear(self, name: Any = None) -> None:
        """Unset it."""
        self.set_names.discard(name)

    def event_is_set(self, name: Any = None) -> bool:
        """Whether it is set."""
        return name in self.set_names
