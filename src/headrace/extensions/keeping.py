"""Futures inside stored values: the scheduler keeps their tasks as long as the values are stored, as clients do.

A value that is handed to a client keeps its tasks until the client says (`KeysReceived`) that it has futures of its
own, or leaves: its interest comes by another way, and must not come too late.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from typing import Any

from headrace import clock
from headrace.messages.client import DesireKeys
from headrace.scheduler.state.records.clients import ClientState

#: Seconds after which a client that has not said that it received a value will not.
HANDOVER_SECONDS = 300.0


class Keeping:
    """What a scheduler keeps on behalf of stored values; see `of`.

    A keeper is a silent client of the scheduler's state. None stands for the keeper of a value without futures.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.keepers: set[ClientState] = set()
        #: values on their way to clients: by client, by token
        self.handovers: dict[str, dict[int, tuple[list[ClientState], asyncio.TimerHandle]]] = {}
        self._tokens = itertools.count(1)

    @classmethod
    def of(cls, scheduler: Any) -> Keeping:
        """The scheduler's; made when it is first asked for."""
        keeping: Keeping | None = scheduler.extensions.get("keeping")
        if keeping is None:
            keeping = scheduler.extensions["keeping"] = cls(scheduler)
        return keeping

    def keep(self, name: str, keys: Iterable[Any]) -> ClientState | None:
        """Keep the tasks of these keys; what the scheduler does not know cannot be kept."""
        known = [key for key in keys if key in self.scheduler.tasks]
        if not known:
            return None
        keeper = ClientState(name, silent=True)
        self.keepers.add(keeper)
        self.scheduler.state.handle(keeper, DesireKeys(known), clock.now())
        self.scheduler.flush()
        return keeper

    def let_go(self, keepers: Iterable[ClientState | None]) -> None:
        """Keep for these no longer."""
        for keeper in keepers:
            if keeper in self.keepers:
                self.keepers.discard(keeper)
                self.scheduler.state.let_go(keeper, clock.now())
        self.scheduler.flush()

    def hand_over(self, client: Any, keepers: Iterable[ClientState | None]) -> int | None:
        """Keep on for these until the client has received what they keep; returns the token that it is to name.

        Nothing is kept, and None is returned, for a client that the scheduler does not know.
        """
        kept = [keeper for keeper in keepers if keeper is not None]
        if not kept:
            return None
        if client not in self.scheduler.clients:
            self.let_go(kept)
            return None
        token = next(self._tokens)
        timer = asyncio.get_running_loop().call_later(HANDOVER_SECONDS, self.keys_received, client, token)
        self.handovers.setdefault(client, {})[token] = kept, timer
        return token

    # What the scheduler tells

    def keys_received(self, client: str, token: int) -> None:
        """A client has futures of its own for what it was handed."""
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
