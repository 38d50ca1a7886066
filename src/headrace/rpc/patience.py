"""Requests to peers that may have stopped without their connection breaking: given up on when nothing comes any more.

A stopped process (or a host that has vanished) keeps its connections. As long as bytes come, the request goes on,
however long it takes; a peer that was given up on gets twice the time at the next attempt: it may only be slow.
"""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.comm import Comm
from headrace.exceptions import CommClosedError

from .connection_retries import RetryOptions, retry
from .pool import ConnectionPool
from .requests import send_recv

#: Seconds without a byte after which a peer is given up on, at first and at most.
FIRST_PATIENCE = 5.0
LONGEST_PATIENCE = 300.0


class SilentPeerError(CommClosedError):
    """A peer has not sent anything for too long."""


class PatientCalls:
    """Calls over a pool that give up when nothing comes, and at once where nothing listens any more.

    Args:
        pool: where connections come from.
        first: seconds without a byte after which a peer is given up on for the first time.

    What is called must be such that it may be called twice: with `distributed.comm.retry.count`, a call that fails with
    its connection is tried again.
    """

    def __init__(self, pool: ConnectionPool, first: float = FIRST_PATIENCE) -> None:
        self._pool = pool
        self.first = first
        self._retry = RetryOptions.from_config()
        #: for peers that were given up on: the next patience
        self._next: dict[str, float] = {}

    async def call(self, address: str, op: str, **kwargs: object) -> Any:
        """Call an operation of the server at an address.

        Raises:
            SilentPeerError: an OSError; nothing has come for too long.
            Exception: as `send_recv`.
        """
        options = self._retry
        if not options.count:
            return await self._attempt(address, op, kwargs)
        return await retry(
            lambda: self._attempt(address, op, kwargs),
            options.count,
            options.delay_min,
            options.delay_max,
            operation=f"{op} of {address}",
        )

    async def _attempt(self, address: str, op: str, kwargs: dict[str, Any]) -> Any:
        patience = self._next.get(address, self.first)
        try:
            reply = await self._call(address, op, patience, kwargs)
        except (SilentPeerError, TimeoutError):
            self._next[address] = min(2 * patience, LONGEST_PATIENCE)
            raise
        if address in self._next:
            del self._next[address]
        return reply

    async def _call(self, address: str, op: str, patience: float, kwargs: dict[str, Any]) -> Any:
        pool = self._pool
        comm = await pool.connect(address, timeout=patience, retry_refused=False)
        watch = _Watch(comm, patience)
        try:
            return await send_recv(comm, op=op, **kwargs)
        except OSError:
            if watch.silent:
                raise SilentPeerError(f"{address} has not sent anything for {patience:g} s") from None
            raise
        finally:
            watch.stop()
            pool.reuse(address, comm)


class _Watch:
    """Closes a comm over which nothing has come for so many seconds.

    Attributes:
        silent: whether it has.
    """

    def __init__(self, comm: Comm, patience: float) -> None:
        self.silent = False
        self._comm = comm
        self._patience = patience
        self._seen = comm.progress
        self._timer = asyncio.get_running_loop().call_later(patience, self._look)

    def _look(self) -> None:
        now = self._comm.progress
        if now == self._seen and now is not None:  # None within this process, where nobody stops alone
            self.silent = True
            self._comm.abort()
        else:
            self._seen = now
            self._timer = asyncio.get_running_loop().call_later(self._patience, self._look)

    def stop(self) -> None:
        """The call is over."""
        self._timer.cancel()
