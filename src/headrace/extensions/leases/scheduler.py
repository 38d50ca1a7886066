"""The scheduler's one keeper of leases, shared by semaphores, locks and multi-locks: it has the timer.

Nothing runs while all holders are connected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from headrace import config
from headrace.scheduler.shell import HasShell, Shell, shell_of

from .core import Leases

logger = logging.getLogger("distributed.scheduler")


class LeaseKeeper:
    """Leases of the clients of one scheduler; see `of`.

    Attributes:
        core: the leases themselves.
        interval: seconds between two looks for leases that have ended, while any may.
    """

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self._shell = shell_of(scheduler)
        self.core = Leases(config.parse_seconds(config.get("distributed.scheduler.locks.lease-timeout", "30s")))
        self.interval = config.parse_seconds(config.get("distributed.scheduler.locks.lease-validation-interval", "10s"))
        self._on_end: dict[str, Callable[[str], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._to_be_ended: list[str] = []

    @classmethod
    def of(cls, scheduler: HasShell | Shell) -> LeaseKeeper:
        """Get the scheduler's keeper; the first call makes it."""
        shell = shell_of(scheduler)
        keeper: LeaseKeeper | None = shell.extensions.get("leases")
        if keeper is None:
            keeper = shell.extensions["leases"] = cls(shell)
        return keeper

    def grant(self, identifier: str, client: str | None, worker: str | None, on_end: Callable[[str], None]) -> None:
        """Have `on_end(identifier)` called when the holder has been gone for too long.

        Args:
            client: name of the client that took the lease; None when it will be refreshed by hand.
            worker: address of the worker whose task took it.
        """
        self._on_end[identifier] = on_end
        self.core.grant(identifier, client, worker, client in self._shell.client_streams, _now())
        self._watch()

    def drop(self, identifier: str) -> bool:
        """A lease is given up; False if it has ended already."""
        self._on_end.pop(identifier, None)
        return self.core.drop(identifier)

    def refresh(self, identifiers: list[str]) -> list[str]:
        """Put off the ends of leases; returns those that have ended."""
        return self.core.refresh(identifiers, _now())

    # Hooks that the scheduler calls

    def client_lost(self, client: str) -> None:
        """A client's connection broke."""
        self.core.holder_gone(client, _now())
        self._watch()

    client_removed = client_lost

    def client_connected(self, client: str) -> None:
        """A client is connected again, perhaps after the scheduler had given it up."""
        self.core.holder_back(client)

    def work_forgotten(self) -> None:
        """A restart begins: leases of tasks end once their workers have ended, and not before."""
        self._to_be_ended = self.core.of_workers()

    def workers_restarted(self) -> None:
        """All workers have ended: so do the leases that their tasks held."""
        ended, self._to_be_ended = self._to_be_ended, []
        for identifier in ended:
            if self.core.drop(identifier):
                self._on_end.pop(identifier)(identifier)

    def _watch(self) -> None:
        if self._timer is None and self.core.ending and self.core.timeout != float("inf"):
            self._timer = asyncio.get_running_loop().call_later(self.interval, self._look)

    def _look(self) -> None:
        self._timer = None
        for identifier in self.core.expired(_now()):
            on_end = self._on_end.pop(identifier)
            logger.warning("A lease (%s) has ended: its holder has been gone for %g s", identifier, self.core.timeout)
            on_end(identifier)
        if self._shell.is_running:
            self._watch()


def _now() -> float:
    return asyncio.get_running_loop().time()
