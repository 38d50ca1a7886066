"""Requests to peers that may have stopped without their connection breaking: given up on when nothing comes any more.

A stopped process (or a host that has vanished) keeps its connections. As long as bytes come, the request goes on,
however long it takes; a peer that was given up on gets twice the time at the next attempt: it may only be slow.
"""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.exceptions import CommClosedError

from .calls import send_recv
from .pool import ConnectionPool
from .retrying import RetryOptions, retry

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

    async def call(self, address: str, op: str, **kwargs: Any) -> Any:
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
        loop = asyncio.get_running_loop()
        silent = False
        seen = comm.progress
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal seen, silent, timer
            now = comm.progress
            if now == seen and now is not None:  # None within this process, where nobody stops alone
                silent = True
                comm.abort()
            else:
                seen = now
                timer = loop.call_later(patience, look)

        timer = loop.call_later(patience, look)
        try:
            return await send_recv(comm, op=op, **kwargs)
        except OSError:
            if silent:
                raise SilentPeerError(f"{address} has not sent anything for {patience:g} s") from None
            raise
        finally:
            timer.cancel()
            pool.reuse(address, comm)
