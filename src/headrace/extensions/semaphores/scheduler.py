"""The scheduler's half of `Semaphore` and `Lock`."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Hashable, Iterable
from functools import partial
from typing import Any

from headrace.comm import Comm
from headrace.config import parse_seconds
from headrace.rpc.server import Operation
from headrace.scheduler.extension_operations import register_operations
from headrace.scheduler.shell import HasShell, Shell

from ..leases.scheduler import LeaseKeeper
from ..waiting_requests import Waiting
from .core import Semaphores

logger = logging.getLogger("distributed.scheduler")


class SemaphoreExtension:
    """Semaphores by name; a lease of a holder whose connection has gone is free again after a while."""

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self.core = Semaphores()
        self.waiting = Waiting()
        self.leases = LeaseKeeper.of(scheduler)
        self.scheduler_closing = self.waiting.close
        register_operations(
            scheduler,
            "semaphores",
            {
                "semaphore_register": self.create,
                "semaphore_acquire": Operation(self.acquire, takes_comm=True),
                # the second time the lease is not there any more
                "semaphore_release": Operation(self.release, repeatable=True),
                "semaphore_refresh_leases": self.refresh_leases,
                "semaphore_value": self.get_value,
                "semaphore_close": self.close,
            },
        )

    def create(self, name: Hashable, max_leases: int, lease_timeout: object = None, fleeting: bool = False) -> None:
        """Make a semaphore, unless it is there; see `Semaphores.create`. All leases have the scheduler's timeout."""
        self.core.create(name, max_leases, fleeting)

    async def acquire(
        self,
        name: Hashable = None,
        timeout: float | str | None = None,
        lease_id: Any = None,
        client: str | None = None,
        worker: str | None = None,
        max_leases: int | None = None,
        fleeting: bool = False,
        comm: Comm | None = None,
    ) -> bool:
        """Grant a lease, in turn; False when `timeout` seconds were not enough.

        Args:
            timeout: seconds to wait; 0 for only if it can be had now, None for ever.
            lease_id: the caller's name for the lease; never used twice.
            client, worker: the holder; see `LeaseKeeper.grant`.
            max_leases: make the semaphore, unless it is there.

        Raises:
            RuntimeError: there is no such semaphore, or it was closed.
        """
        if max_leases is not None:
            self.core.create(name, max_leases, fleeting)
        if self.core.request(name, lease_id):
            self.core.note_wait(name, 0.0)
            self.leases.grant(lease_id, client, worker, partial(self._withdraw, name))
            return True
        seconds = None if timeout is None else parse_seconds(timeout)
        asked = time.monotonic()
        try:
            waits = seconds is None or seconds > 0
            if waits and await self.waiting.turn(lease_id, comm, seconds) and self.core.holds(name, lease_id):
                self.core.note_wait(name, time.monotonic() - asked)
                self.leases.grant(lease_id, client, worker, partial(self._withdraw, name))
                return True
        except BaseException:
            self._withdraw(name, lease_id)
            raise
        self._withdraw(name, lease_id)
        return False

    def release(self, name: Hashable = None, lease_id: Any = None) -> bool:
        """Give a lease up, or withdraw the request for it; the oldest request is next. False if it had ended."""
        held = self.core.holds(name, lease_id)
        self.leases.drop(lease_id)
        self._withdraw(name, lease_id)
        self.waiting.grant(lease_id, False)
        return held

    def refresh_leases(self, name: Hashable = None, lease_ids: Iterable[str] | None = None) -> None:
        """Put off the ends of leases that no client answers for."""
        ended = self.leases.refresh(list(lease_ids or ()))
        if ended:
            logger.warning("%d lease(s) of the semaphore %r have ended before they were refreshed", len(ended), name)

    def get_value(self, name: Hashable = None) -> int:
        """The number of leases that are held."""
        return self.core.value(name)

    def close(self, name: Hashable = None) -> None:
        """Forget a semaphore; requests that wait for it get an error."""
        held, waiting = self.core.close(name)
        for lease in held:
            self.leases.drop(lease)
        for lease in waiting:
            self.waiting.fail(lease, RuntimeError(f"Semaphore `{name}` was closed while this waited for it."))
        if held:
            text = f"Closing semaphore {name} but there remain unreleased leases: {len(held)}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def _withdraw(self, name: Hashable, lease_id: str) -> None:
        """Let a lease go to the next request; one that was given up, or lost its connection, is passed over."""
        granted = self.core.withdraw(name, lease_id)
        while granted:
            following = granted.pop(0)
            if not self.waiting.grant(following):
                granted += self.core.withdraw(name, following)
