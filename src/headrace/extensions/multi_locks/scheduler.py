"""The scheduler's half of `MultiLock`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.comm import Comm
from headrace.config import parse_seconds
from headrace.rpc.server import Operation
from headrace.scheduler.extension_operations import register_operations
from headrace.scheduler.shell import HasShell, Shell

from ..leases.scheduler import LeaseKeeper
from ..waiting_requests import Waiting
from .core import MultiLocks


class MultiLockExtension:
    """Locks by several names; those of a holder whose connection has gone are free again after a while."""

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self.core = MultiLocks()
        self.waiting = Waiting()
        self.leases = LeaseKeeper.of(scheduler)
        self.scheduler_closing = self.waiting.close
        register_operations(
            scheduler,
            "multi_locks",
            {
                "multi_lock_acquire": Operation(self.acquire, takes_comm=True),
                # the second time the locks are not held any more
                "multi_lock_release": Operation(self.release, repeatable=True),
            },
        )

    async def acquire(
        self,
        locks: Iterable[str] | None = None,
        id: Any = None,
        timeout: float | str | None = None,
        num_locks: int | None = None,
        client: str | None = None,
        worker: str | None = None,
        comm: Comm | None = None,
    ) -> bool:
        """Grant locks, in turn; False when `timeout` seconds were not enough.

        Args:
            locks: their names.
            id: of the request; never used twice.
            timeout: seconds to wait; 0 for only if they can be had now, None for ever.
            num_locks: how many of the names are needed; all by default.
            client, worker: the holder; see `LeaseKeeper.grant`.

        Raises:
            ValueError: more are needed than named.
        """
        if self.core.request(id, locks or (), num_locks):
            self.leases.grant(id, client, worker, self._withdraw)
            return True
        seconds = None if timeout is None else parse_seconds(timeout)
        try:
            waits = seconds is None or seconds > 0
            if waits and await self.waiting.turn(id, comm, seconds) and self.core.holds(id):
                self.leases.grant(id, client, worker, self._withdraw)
                return True
        except BaseException:
            self._withdraw(id)
            raise
        self._withdraw(id)
        return False

    def release(self, id: Any = None) -> bool:
        """Give locks up, or withdraw the request for them; the oldest request is next. False if they had ended."""
        held = self.core.holds(id)
        self.leases.drop(id)
        self._withdraw(id)
        self.waiting.grant(id, False)
        return held

    def _withdraw(self, id: str) -> None:
        """Let locks go to the next requests; those that were given up, or lost their connection, are passed over."""
        granted = self.core.withdraw(id)
        while granted:
            following = granted.pop(0)
            if not self.waiting.grant(following):
                granted += self.core.withdraw(following)
