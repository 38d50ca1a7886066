"""Requests to peers that may have stopped while their connection stands: the caller gives up when no bytes come.

A stopped process (or a host that has vanished) keeps its connections. As long as bytes come, the request goes on,
however long it takes. A peer that was given up on gets twice the time at the next attempt, as it may only be slow.
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
    """Calls over a pool that give up when no bytes come, and at once where nothing listens any more.

    Only operations that may be carried out twice may be called: with `distributed.comm.retry.count`, a call whose
    connection fails is tried again.

    Args:
        pool: lends the connections.
        first: seconds without a byte after which a peer is given up on for the first time.
    """

    def __init__(self, pool: ConnectionPool, first: float = FIRST_PATIENCE) -> None:
        self._pool = pool
        self.first = first
        self._retry = RetryOptions.from_config()
        #: by address of a peer that was given up on: the patience of the next attempt, in seconds
        self._next: dict[str, float] = {}

    async def call(self, address: str, op: str, **kwargs: object) -> Any:
        """Call an operation of the server at an address.

        Raises:
            SilentPeerError: an OSError; no byte has come for too long.
            Exception: as for `send_recv`.
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
    """Aborts a comm once no byte has come over it for `patience` seconds.

    Attributes:
        silent: whether it has aborted the comm.
    """

    def __init__(self, comm: Comm, patience: float) -> None:
        self.silent = False
        self._comm = comm
        self._patience = patience
        self._seen = comm.progress
        self._timer = asyncio.get_running_loop().call_later(patience, self._look)

    def _look(self) -> None:
        now = self._comm.progress
        if now == self._seen and now is not None:  # None within this process, where no end stops alone
            self.silent = True
            self._comm.abort()
        else:
            self._seen = now
            self._timer = asyncio.get_running_loop().call_later(self._patience, self._look)

    def stop(self) -> None:
        """Watch no more: the call is over."""
        self._timer.cancel()
