"""The scheduler's half of `Variable`: it stores pickles, and keeps the tasks of the futures in them."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

from headrace.comm import Comm
from headrace.common.keys import Key
from headrace.config import parse_seconds
from headrace.messages.base import Payload
from headrace.rpc.server import Operation
from headrace.scheduler.extension_operations import register_operations
from headrace.scheduler.shell import HasShell, Shell
from headrace.scheduler.state.records.clients import ClientState

from ..stored_futures import FutureKeeper
from ..waiting_requests import Waiting


class StoredValue(NamedTuple):
    """The value of a variable.

    Attributes:
        payload: the pickled value.
        keys: of the futures in it.
        keeper: keeps the tasks of these; None if there are none.
    """

    payload: Payload
    keys: tuple[Key, ...]
    keeper: ClientState | None


class VariableExtension:
    """Values by name."""

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self.variables: dict[Hashable, StoredValue] = {}
        self.waiting = Waiting()
        self.futures = FutureKeeper.of(scheduler)
        self.scheduler_closing = self.waiting.close
        self._lines: dict[Hashable, dict[int, str | None]] = {}
        self._numbers = itertools.count()
        register_operations(
            scheduler,
            "variables",
            {
                "variable_set": self.set,
                "variable_get": Operation(self.get, takes_comm=True),
                "variable_delete": self.delete,
            },
        )

    async def set(
        self,
        name: Hashable = None,
        key: Iterable[Key] | None = None,
        data: Payload = None,
        client: str | None = None,
        timeout: float | str | None = None,
    ) -> None:
        """Set a value.

        Args:
            key: keys of the futures in the value.
            data: the value, pickled.
            timeout: nothing here waits.
        """
        keys = tuple(key or ())
        before = self.variables.get(name)
        self.variables[name] = StoredValue(data, keys, self.futures.keep(f"variable-{name}", keys))
        if before is not None:
            self.futures.let_go([before.keeper])
        for number, receiver in self._lines.pop(name, {}).items():
            # Now: the variable may be unset before the coroutines of these requests go on.
            self.waiting.grant(number, self._handed_over(name, receiver))

    async def get(
        self,
        name: Hashable = None,
        client: str | None = None,
        timeout: float | str | None = None,
        comm: Comm | None = None,
    ) -> dict[str, Any] | None:
        """The value; None when it was not set within `timeout` seconds.

        Returns:
            "data": the pickle; "token": see `FutureKeeper.hand_over`.
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

    async def delete(self, name: Hashable = None, client: str | None = None) -> None:
        """Unset the variable; nothing happens if it is not set."""
        self._unset(name)

    async def release(self, key: Key, name: Hashable) -> None:
        """Unset the variable if its value has a future with this key."""
        value = self.variables.get(name)
        if value is not None and key in value.keys:
            self._unset(name)

    async def future_received_confirm(
        self, name: Hashable = None, key: object = None, token: int | None = None, client: str | None = None
    ) -> None:
        """A client has futures of its own for the value that it was handed with this token."""
        if client is not None and token is not None:
            self.futures.keys_received(client, token)

    # Hooks that the scheduler calls

    def work_forgotten(self) -> None:
        """A restart: values with futures in them go with the tasks of these."""
        for name in [name for name, value in self.variables.items() if value.keys]:
            self._unset(name)

    def _handed_over(self, name: Hashable, client: str | None) -> dict[str, Any]:
        value = self.variables[name]
        keeper = self.futures.keep(f"variable-{name}", value.keys)
        return {"data": value.payload, "token": self.futures.hand_over(client, [keeper])}

    def _unset(self, name: Hashable) -> None:
        value = self.variables.pop(name, None)
        if value is not None:
            self.futures.let_go([value.keeper])
