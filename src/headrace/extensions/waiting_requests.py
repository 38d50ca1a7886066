"""Requests at the scheduler that wait for their turn. Each is answered when its turn comes; nobody polls.

The extension that owns the requests decides whose turn it is, and what the answer is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from functools import partial
from typing import Any

from headrace.comm import Comm


class Waiting:
    """Requests by their identifiers, each with the connection that waits for the answer."""

    def __init__(self) -> None:
        self._requests: dict[Hashable, tuple[Comm | None, asyncio.Future[Any]]] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, identifier: Hashable) -> bool:
        return identifier in self._requests

    async def turn(self, identifier: Hashable, comm: Comm | None, timeout: float | None) -> Any:
        """Wait until `grant` or `fail`; None when `timeout` seconds were not enough, or the connection has ended.

        Raises:
            Exception: the error that `fail` was given.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._requests[identifier] = comm, answer
        if comm is not None:
            comm.when_closed = partial(_give_up, answer)
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            return answer.result() if answer.done() and not answer.cancelled() else None
        finally:
            self._requests.pop(identifier, None)
            if comm is not None:
                comm.when_closed = None

    def grant(self, identifier: Hashable, value: object = True) -> bool:
        """Answer a request; False when nobody waits for the answer any more."""
        comm, answer = self._requests.get(identifier, (None, None))
        if answer is None or answer.done() or (comm is not None and comm.closed()):
            return False
        answer.set_result(value)
        return True

    def fail(self, identifier: Hashable, error: Exception) -> None:
        """Have an error raised at a request, if it still waits."""
        _, answer = self._requests.get(identifier, (None, None))
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def close(self) -> None:
        """The scheduler closes: end all requests unanswered, so that closing need not wait for them."""
        for comm, answer in list(self._requests.values()):
            _give_up(answer)
            if comm is not None:
                comm.abort()


def _give_up(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_result(None)
