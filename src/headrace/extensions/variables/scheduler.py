"""The scheduler's half of `Variable`: it stores pickles, and keeps the tasks of the futures in them."""

from __future__ import annotations

import itertools
from typing import Any

from headrace.comm import Comm
from headrace.config import parse_seconds

from ..stored_futures import Keeping
from ..waiting_requests import Waiting


class VariableExtension:
    """Values by name: pickle, keys of its futures, and what keeps their tasks."""

    def __init__(self, scheduler: Any) -> None:
        self.variables: dict[Any, tuple[Any, tuple[Any, ...], Any]] = {}
        self.waiting = Waiting()
        self.keeping = Keeping.of(scheduler)
        self.scheduler_closing = self.waiting.close
        self._lines: dict[Any, dict[int, str | None]] = {}
        self._numbers = itertools.count()
        scheduler.server.handlers.update(variable_set=self.set, variable_get=self.get, variable_delete=self.delete)

    async def set(
        self,
        name: Any = None,
        key: Any = None,
        data: Any = None,
        client: str | None = None,
        timeout: float | str | None = None,
    ) -> None:
        """Set a value.

        Args:
            key: those of the futures in the value.
            data: the value, pickled.
            timeout: nothing here waits.
        """
        keys = tuple(key or ())
        before = self.variables.get(name)
        self.variables[name] = data, keys, self.keeping.keep(f"variable-{name}", keys)
        if before is not None:
            self.keeping.let_go([before[2]])
        for number, receiver in self._lines.pop(name, {}).items():
            self.waiting.grant(number, self._handed_over(name, receiver))  # now: it may be unset before they hear

    async def get(
        self,
        name: Any = None,
        client: str | None = None,
        timeout: float | str | None = None,
        comm: Comm | None = None,
    ) -> dict[str, Any] | None:
        """The value; None when it was not set within `timeout` seconds.

        Returns:
            "data": the pickle; "token": see `Keeping.hand_over`.
        """
        seconds = None if timeout is None else parse_seconds(timeout)
        if name in self.variables:
            return self._handed_over(name, client)
        if seconds is not None and seconds <= 0:
            return None
        number = next(self._numbers)
        self._lines.setdefault(name, {})[number] = client
        try:
            value: dict[str, Any] | None = await self.waiting.turn(number, comm, seconds)
            return value
        finally:
            line = self._lines.get(name)
            if line is not None:
                line.pop(number, None)
                if not line:
                    del self._lines[name]

    async def delete(self, name: Any = None, client: str | None = None) -> None:
        """Unset it; nothing if it is not set."""
        self._unset(name)

    async def release(self, key: Any, name: Any) -> None:
        """As `delete`, if the value has a future with this key."""
        if key in self.variables.get(name, (None, ()))[1]:
            self._unset(name)

    async def future_received_confirm(
        self, name: Any = None, key: Any = None, token: Any = None, client: Any = None
    ) -> None:
        """A client has futures of its own for what it was handed with this token."""
        self.keeping.keys_received(client, token)

    # What the scheduler tells

    def work_forgotten(self) -> None:
        """A restart: values with futures in them are gone."""
        for name in [name for name, (_, keys, _) in self.variables.items() if keys]:
            self._unset(name)

    def _handed_over(self, name: Any, client: str | None) -> dict[str, Any]:
        data, keys, _ = self.variables[name]
        return {"data": data, "token": self.keeping.hand_over(client, [self.keeping.keep(f"variable-{name}", keys)])}

    def _unset(self, name: Any) -> None:
        value = self.variables.pop(name, None)
        if value is not None:
            self.keeping.let_go([value[2]])
