"""The base of all progress bars: it follows futures, and is told how far these are. Shows nothing itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from headrace.config import parse_seconds

from .feed import GroupBy, ProgressFeed, Snapshot

if TYPE_CHECKING:
    from headrace.client.future import Future
    from headrace.comm import Comm

__all__ = ["MultiProgressBar", "ProgressBar"]


class ProgressBar:
    """Follows futures, and all that they need, until they are done; subclasses show it.

    A subclass overrides `draw`, or `_draw_bar(remaining, all, **more)` and `_draw_stop(remaining, all, status, **more)`
    as those of other packages do: they are called with numbers of tasks (dictionaries of them by group, where a bar has
    groups), the status and, after a failure, the pickled `exception` and the `key` of the task.

    Args:
        keys: futures, containers of futures, persisted collections, or keys (text) of the current client.
        scheduler: accepted for compatibility; futures know theirs.
        interval: seconds, or text such as "100ms", between two looks at most.
        complete: count tasks that are done at the start as well.
        group_by: "prefix", "spans", or a function of a key that gives its group's name.

    Attributes:
        scheduler: address of the scheduler; what was given, where there are no futures.
        complete, group_by: as given.

    Raises:
        ValueError: `group_by` is none of these, or the futures are of several schedulers.
    """

    #: whether subclasses are told numbers by group
    _by_group = False

    def __init__(
        self,
        keys: object,
        scheduler: object = None,
        interval: float | str = "100ms",
        complete: bool = True,
        *,
        group_by: GroupBy = "prefix",
    ) -> None:
        self.interval = parse_seconds(interval)
        self.complete = complete
        self.group_by = group_by
        self.feed = ProgressFeed(
            _futures(keys), group_by=group_by, complete=complete, interval=self.interval, on_news=self._on_news
        )
        client = self.feed.client
        self.scheduler = scheduler if client is None else client.session.address

    @property
    def comm(self) -> Comm | None:
        """The connection over which the scheduler tells; None before there is one."""
        return self.feed.comm

    @property
    def elapsed(self) -> float:
        """Seconds since the bar was made."""
        return self.feed.elapsed

    @property
    def snapshot(self) -> Snapshot:
        """The counts of now."""
        return self.feed.now()

    @property
    def status(self) -> str | None:
        """The text "finished", or "error" if a task failed; None before the end."""
        return _status(self.feed.latest) if self.feed.end.done() else None

    @property
    def _last_response(self) -> dict[str, Any]:
        return self._told(self.feed.latest)

    def _told(self, snapshot: Snapshot) -> dict[str, Any]:
        """A snapshot in the form that `_draw_bar` and `_draw_stop` take."""
        every: Any = {group.name: group.total for group in snapshot.groups}
        left: Any = {group.name: group.total - group.done - group.lost for group in snapshot.groups}
        if not self._by_group:
            every, left = snapshot.total, snapshot.total - snapshot.done - snapshot.lost
        told = {"all": every, "remaining": left, "status": _status(snapshot) if snapshot.finished else None}
        if told["status"] == "error" and self.feed.failure is not None:
            told["key"], told["exception"] = self.feed.failure
        return told

    def _on_news(self, snapshot: Snapshot) -> None:
        """The counts have changed; called on the client's loop."""

    def draw(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        if snapshot.running is not None or snapshot.finished:  # the scheduler has told something
            self._draw_bar(**self._told(snapshot))

    def _draw_bar(self, **told: Any) -> None:
        """Show how far the tasks are; for subclasses."""

    def _draw_stop(self, **told: Any) -> None:
        """Show that the tasks have ended, and how; for subclasses."""

    async def listen(self) -> Snapshot:
        """Follow until all are done, within an event loop."""
        end = asyncio.wrap_future(self.feed.end)
        try:
            while not end.done():
                self.draw(self.feed.now())
                await asyncio.wait([end], timeout=self.interval)
        except BaseException:
            self._interrupted()
            raise
        return self._ended(end.result() if not end.cancelled() else self.feed.latest)

    def run(self) -> Snapshot:
        """Follow until all are done; blocks.

        Raises:
            RuntimeError: called on the client's own event loop; `await listen()` there.
        """
        client = self.feed.client
        if client is not None and asyncio._get_running_loop() is client.loop.asyncio_loop:
            raise RuntimeError("a progress bar cannot block the client's own event loop: use `await bar.listen()`")
        end = self.feed.end
        try:
            while not end.done():
                self.draw(self.feed.now())
                with contextlib.suppress(TimeoutError, concurrent.futures.CancelledError):
                    end.result(self.interval)
        except BaseException:
            self._interrupted()
            raise
        return self._ended(end.result() if not end.cancelled() else self.feed.latest)

    def _interrupted(self) -> None:
        self.feed.stop()

    def _ended(self, snapshot: Snapshot) -> Snapshot:
        self.draw(snapshot)
        self._draw_stop(**self._told(snapshot))
        return snapshot


class MultiProgressBar(ProgressBar):
    """A `ProgressBar` by group; it shows nothing itself, see `MultiProgressWidget` and `TextProgressBar`."""

    _by_group = True

    def __init__(
        self,
        keys: object,
        scheduler: object = None,
        group_by: GroupBy = "prefix",
        interval: str | float = "100ms",
        complete: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, scheduler, interval, complete, group_by=group_by, **kwargs)


def _status(snapshot: Snapshot) -> str:
    """How what was followed has ended."""
    return "error" if snapshot.erred or snapshot.problem else "finished"


def _futures(values: object) -> list[Future[Any]]:
    """Find the futures in a user's values, each once."""
    from headrace.client import Future, futures_of

    given = [values] if isinstance(values, str) or not isinstance(values, Iterable) else list(values)
    named = [Future(key) for key in _texts(given)]
    found = named if named and len(named) == len(given) else [*futures_of(given), *named]
    return list({id(future._bound()): future for future in found}.values())


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _texts(value)
