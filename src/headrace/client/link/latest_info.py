"""The scheduler's last answer about itself, for asynchronous clients, which must not wait; renewed by whoever looks.

It is not renewed more often than `distributed.client.scheduler-info-interval`. Nothing is asked while nobody looks: an
idle client costs the scheduler nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Generator
from itertools import islice
from typing import TYPE_CHECKING, Any

from headrace.client.errors import ClosedClientError
from headrace.client.presentation.answer_tables import SchedulerInfo
from headrace.config import get, parse_seconds

if TYPE_CHECKING:
    from .client_session import ClientSession


async def ask(session: ClientSession, n_workers: int) -> SchedulerInfo:
    """The scheduler's answer, with so many workers (-1: all)."""
    session.check_open()
    if session.scheduler is None:
        raise ClosedClientError("this client is not connected to a scheduler")
    return SchedulerInfo(await session.scheduler.call("identity", n_workers=n_workers))


class KnownSchedulerInfo(SchedulerInfo):
    """The scheduler's description of itself and its workers, as of the last answer; awaited, as of now."""

    def __init__(self, known: dict[str, Any], session: ClientSession, n_workers: int) -> None:
        super().__init__(known)
        self._session, self._n_workers = session, n_workers

    def __await__(self) -> Generator[Any, Any, SchedulerInfo]:
        return ask(self._session, self._n_workers).__await__()


class LatestInfo:
    """The last answer to "who are you?"."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._known: dict[str, Any] = {"type": "Scheduler", "workers": {}}
        self._asking: asyncio.Task[None] | None = None
        self._interval = parse_seconds(get("distributed.client.scheduler-info-interval"))
        self._answered = -math.inf

    async def refresh(self) -> None:
        """Ask, and keep the answer."""
        self._known = await ask(self._session, -1)
        self._answered = asyncio.get_running_loop().time()

    def look(self, n_workers: int) -> KnownSchedulerInfo:
        """The last answer, with so many workers; asks again in the background, once it is old enough.

        Raises:
            ClosedClientError: the client is closed.
        """
        self._session.check_open()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._refresh_quietly())
        known = self._known
        if n_workers >= 0:
            known = {**known, "workers": dict(islice(known["workers"].items(), n_workers))}
        return KnownSchedulerInfo(known, self._session, n_workers)

    async def _refresh_quietly(self) -> None:
        age = asyncio.get_running_loop().time() - self._answered
        if age < self._interval:
            await asyncio.sleep(self._interval - age)
        with contextlib.suppress(OSError, ClosedClientError):  # not connected: what was said last is all there is
            await self.refresh()

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
            await asyncio.wait([self._asking])
