"""Futures inside stored values: the scheduler keeps their tasks as long as the values are stored, as clients do.

A value that is handed to a client keeps its tasks until the client says (`KeysReceived`) that it has futures of its
own, or leaves: its interest comes by another way, and must not come too late.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

from headrace.common.keys import Key
from headrace.messages.client import DesireKeys
from headrace.scheduler.shell import HasShell, Shell, shell_of
from headrace.scheduler.state.records.clients import ClientState

#: Seconds after which a client that has not said that it received a value will not.
HANDOVER_SECONDS = 300.0


class FutureKeeper:
    """Keeps the tasks of futures that stored values contain; see `of`.

    For each value there is a keeper: a silent client of the scheduler's core. None stands for the keeper of a value
    without futures.
    """

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self._shell = shell_of(scheduler)
        self.keepers: set[ClientState] = set()
        #: values on their way to clients: by client, by token
        self.handovers: dict[str, dict[int, tuple[list[ClientState], asyncio.TimerHandle]]] = {}
        self._tokens = itertools.count(1)

    @classmethod
    def of(cls, scheduler: HasShell | Shell) -> FutureKeeper:
        """Get the scheduler's keeper; the first call makes it."""
        shell = shell_of(scheduler)
        present: FutureKeeper | None = shell.extensions.get("keeping")
        if present is None:
            present = shell.extensions["keeping"] = cls(shell)
        return present

    def keep(self, name: str, keys: Iterable[Key]) -> ClientState | None:
        """Keep the tasks of these keys; keys that the scheduler does not know are passed over."""
        known = [key for key in keys if key in self._shell.core.tasks]
        if not known:
            return None
        keeper = ClientState(name, silent=True)
        self.keepers.add(keeper)
        self._shell.core.handle(keeper, DesireKeys(known), self._shell.now())
        self._shell.flush()
        return keeper

    def let_go(self, keepers: Iterable[ClientState | None]) -> None:
        """Keep the tasks of these keepers no longer."""
        for keeper in keepers:
            if keeper is not None and keeper in self.keepers:
                self.keepers.discard(keeper)
                self._shell.core.let_go(keeper, self._shell.now())
        self._shell.flush()

    def hand_over(self, client: str | None, keepers: Iterable[ClientState | None]) -> int | None:
        """Keep the tasks until the client has received their futures; returns the token that it is to name then.

        Nothing is kept, and None is returned, for a client that the scheduler does not know.
        """
        kept = [keeper for keeper in keepers if keeper is not None]
        if not kept:
            return None
        if client is None or client not in self._shell.core.clients:
            self.let_go(kept)
            return None
        token = next(self._tokens)
        timer = asyncio.get_running_loop().call_later(HANDOVER_SECONDS, self.keys_received, client, token)
        self.handovers.setdefault(client, {})[token] = kept, timer
        return token

    # Hooks that the scheduler calls

    def keys_received(self, client: str, token: int) -> None:
        """A client has futures of its own for the values that it was handed."""
        tokens = self.handovers.get(client, {})
        handover = tokens.pop(token, None)
        if not tokens:
            self.handovers.pop(client, None)
        if handover is not None:
            handover[1].cancel()
            self.let_go(handover[0])

    def client_removed(self, client: str) -> None:
        """A client has left."""
        for token in list(self.handovers.get(client, ())):
            self.keys_received(client, token)

    def work_forgotten(self) -> None:
        """A restart: no task is kept any more."""
        for client in list(self.handovers):
            self.client_removed(client)
        self.let_go(list(self.keepers))
