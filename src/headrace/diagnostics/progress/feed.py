"""The client's half of progress: asks the scheduler to push counts, and hands them on as they come.

Runs on the client's loop; comes back when the connection breaks, and ends with the client. Shows nothing.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from headrace.common.keys import Key, from_wire
from headrace.exceptions import CommClosedError
from headrace.protocol import dumps
from headrace.rpc.requests import UNCAUGHT_ERROR, remote_exception

if TYPE_CHECKING:
    from headrace.client.client import Client
    from headrace.client.future import Future
    from headrace.comm import Comm

__all__ = ["Group", "GroupBy", "ProgressFeed", "Snapshot"]

#: A grouping of tasks: "prefix" (of their keys), "spans", or a function of a key that gives its group's name.
GroupBy: TypeAlias = str | Callable[[Any], object]

#: Keys in one message.
CHUNK = 20_000
#: Seconds between two attempts to connect again, first and longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
#: Seconds after which `on_news` is called although nothing has changed, since the time is shown.
TICK = 1.0


@dataclass(frozen=True)
class Group:
    """Counts of the tasks of a group; see `headrace.diagnostics.progress.tally.GroupCount`."""

    name: str
    total: int = 0
    done: int = 0
    erred: int = 0
    lost: int = 0
    processing: int = 0
    before: int = 0

    @property
    def ended(self) -> int:
        """The number of tasks that are done, erred or lost."""
        return self.done + self.erred + self.lost

    @property
    def finished(self) -> bool:
        """True once all tasks have ended."""
        return self.ended >= self.total


@dataclass(frozen=True)
class Snapshot:
    """Counts of all tasks that are watched, at one moment.

    Attributes:
        groups: groups that have tasks.
        total: number of tasks, including those that the scheduler does not know yet.
        running: number of tasks that run in the cluster, of all clients; `None` before the scheduler's first message.
        errors: by group, the key and the text of some failures.
        finished: whether all tasks that are wanted have ended.
        elapsed: seconds since the watch began.
        problem: the reason why the watch broke off, if it did.
    """

    groups: tuple[Group, ...] = ()
    total: int = 0
    running: int | None = None
    errors: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    finished: bool = False
    elapsed: float = 0.0
    problem: str = ""

    @classmethod
    def of(cls, message: dict[str, Any], elapsed: float) -> Snapshot:
        """Read a message of the scheduler."""
        groups = tuple([Group(*numbers) for numbers in message["groups"] if numbers[1]])
        total = sum(group.total for group in groups) + message["coming"]
        errors = {name: [(key, text) for key, text in told] for name, told in message["errors"].items()}
        return cls(groups, total, message["running"], errors, message["finished"], elapsed)

    @property
    def done(self) -> int:
        return sum(group.done for group in self.groups)

    @property
    def erred(self) -> int:
        return sum(group.erred for group in self.groups)

    @property
    def lost(self) -> int:
        return sum(group.lost for group in self.groups)

    @property
    def ended(self) -> int:
        """The number of tasks that are done, erred or lost."""
        return sum(group.ended for group in self.groups)

    @property
    def fraction(self) -> float:
        return self.ended / self.total if self.total else float(self.finished)

    @property
    def rate(self) -> float:
        """Tasks that ended per second since the watch began."""
        ended = self.ended - sum(group.before for group in self.groups)
        return ended / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds left at the rate so far; `None` while there is none."""
        return (self.total - self.ended) / self.rate if self.rate else None


class ProgressFeed:
    """Follows futures until all have ended.

    Args:
        futures: all of one scheduler.
        group_by: see `GroupBy`.
        complete: count tasks that are done already as well.
        interval: seconds between two news, at least.
        on_news: called with each `Snapshot`, on the client's loop; once a second if nothing is new.

    Attributes:
        latest: the snapshot that came last.
        client: of the first of the futures; `None` if there are none.
        comm: the connection over which the scheduler tells, once there is one.
        failure: after the end, key and pickled exception of one of the futures that erred, if any did.
        end: done when nothing more will come; its result is the last `Snapshot`.
    """

    def __init__(
        self,
        futures: Sequence[Future[Any]],
        *,
        group_by: GroupBy = "prefix",
        complete: bool = True,
        interval: float = 0.1,
        on_news: Callable[[Snapshot], None] | None = None,
    ) -> None:
        if not (callable(group_by) or group_by in ("prefix", "spans")):
            raise ValueError(f"group_by must be 'prefix', 'spans' or a function of a key, not {group_by!r}")
        self.client: Client | None = _client_of(futures)
        self._futures: Sequence[Future[Any]] | None = futures
        self._question = {
            "op": "watch_progress",
            "group_by": dumps(group_by) if callable(group_by) else group_by,
            "complete": complete,
            "interval": interval,
        }
        self._interval = interval
        self._on_news = on_news
        self._started = time.monotonic()
        self.latest = Snapshot()
        self.comm: Comm | None = None
        self.failure: tuple[Any, Any] | None = None
        self.end: concurrent.futures.Future[Snapshot] = concurrent.futures.Future()
        if self.client is None:
            self._tell(Snapshot(finished=True))
            self.end.set_result(self.latest)
            return
        self.client.session.check_open()
        # In a context of its own: a kernel would take all that is shown later for output of the cell that began it,
        # which who executes notebooks no longer listens to.
        loop = self.client.loop.asyncio_loop
        self.end = contextvars.Context().run(asyncio.run_coroutine_threadsafe, self._follow(self.client), loop)

    @property
    def elapsed(self) -> float:
        """Seconds since the feed was made."""
        return time.monotonic() - self._started

    def stop(self) -> None:
        """Follow no more."""
        self.end.cancel()

    def now(self) -> Snapshot:
        """The snapshot that came last, with the time that has passed since."""
        latest = self.latest
        if latest.finished or latest.problem:
            return latest
        return Snapshot(latest.groups, latest.total, latest.running, latest.errors, elapsed=self.elapsed)

    async def _follow(self, client: Client) -> Snapshot:
        ticking = asyncio.ensure_future(self._tick())
        try:
            await self._follow_through_breaks(client)
        except Exception as error:
            self._tell(Snapshot(**{**vars(self.now()), "problem": f"{type(error).__name__}: {error}"}))
        finally:
            ticking.cancel()
            futures, self._futures = self._futures, None
        if self.latest.erred and futures:
            self.failure = await _failure_among(futures, client)
        return self.latest

    async def _follow_through_breaks(self, client: Client) -> None:
        pause = FIRST_PAUSE
        while not self.latest.finished:
            try:
                await self._follow_once(client)
            except OSError as error:
                if client.status in ("closing", "closed"):
                    raise CommClosedError("the client was closed") from error
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _follow_once(self, client: Client) -> None:
        session = client.session
        comm = self.comm = await session.pool.connect(session.address)
        telling: asyncio.Future[None] | None = None
        try:
            await comm.write(self._question)
            reply = await comm.read()
            if reply.get("status") == UNCAUGHT_ERROR:
                raise remote_exception(reply)
            telling = asyncio.ensure_future(self._tell_keys(client, comm))
            while not self.latest.finished:
                self._tell(Snapshot.of(await comm.read(), self.elapsed))
        finally:
            if telling is not None:
                telling.cancel()
            session.pool.forget(comm)
            comm.abort()

    async def _tell_keys(self, client: Client, comm: Comm) -> None:
        """Send the keys that are wanted and then, once all graphs of before have come, that none is missing."""
        with contextlib.suppress(OSError):
            for keys in _chunks(self._futures or ()):
                await comm.write({"keys": keys})
            await client.held.barrier()
            await comm.write({"last": True})

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            if self.elapsed - self.latest.elapsed > 0.9 * TICK:
                self._tell(self.now())

    def _tell(self, snapshot: Snapshot) -> None:
        self.latest = snapshot
        if self._on_news is not None:
            self._on_news(snapshot)


async def _failure_among(futures: Sequence[Future[Any]], client: Client) -> tuple[Any, Any] | None:
    """Key and pickled exception of one of these that erred."""
    with contextlib.suppress(OSError):
        await client.held.barrier()  # the failure may be on its way to the client, who was told of it otherwise
    for future in futures:
        error = future._bound().error
        if error is not None:
            return future.key if error.blame is None else from_wire(error.blame), error.exception
    return None


def _client_of(futures: Sequence[Future[Any]]) -> Client | None:
    clients = list(dict.fromkeys([future.client for future in futures]))
    for other in clients[1:]:
        if not other.session.same_scheduler(clients[0].session):
            raise ValueError(
                f"one bar follows the futures of one scheduler, not of {clients[0].session.address} and "
                f"{other.session.address}: make a bar for each"
            )
    return clients[0] if clients else None


def _chunks(futures: Sequence[Future[Any]]) -> Iterator[list[Key]]:
    for start in range(0, len(futures), CHUNK):
        yield [future._bound().key for future in futures[start : start + CHUNK]]
