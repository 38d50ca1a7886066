"""The scheduler's half of `Event`: the names that are set, and the requests that wait for each."""

from __future__ import annotations

import itertools
from collections.abc import Hashable

from headrace.comm import Comm
from headrace.config import parse_seconds
from headrace.rpc.server import Operation
from headrace.scheduler.extension_operations import register_operations
from headrace.scheduler.shell import HasShell, Shell

from ..waiting_requests import Waiting


class EventExtension:
    """Flags by name. Only those that are set, or waited for, take room."""

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self.set_names: set[Hashable] = set()
        self.waiting = Waiting()
        self.scheduler_closing = self.waiting.close
        self._lines: dict[Hashable, set[int]] = {}
        self._numbers = itertools.count()
        register_operations(
            scheduler,
            "events",
            {
                "event_wait": Operation(self.event_wait, takes_comm=True),
                "event_set": self.event_set,
                "event_clear": self.event_clear,
                "event_is_set": self.event_is_set,
            },
        )

    async def event_wait(
        self, name: Hashable = None, timeout: float | str | None = None, comm: Comm | None = None
    ) -> bool:
        """Wait until the flag is set; False when `timeout` seconds were not enough."""
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

    def event_set(self, name: Hashable = None) -> None:
        """Set a flag, and answer all requests that wait for it."""
        self.set_names.add(name)
        for number in self._lines.pop(name, ()):
            self.waiting.grant(number)

    def event_clear(self, name: Hashable = None) -> None:
        """Unset a flag."""
        self.set_names.discard(name)

    def event_is_set(self, name: Hashable = None) -> bool:
        """True while the flag is set."""
        return name in self.set_names
