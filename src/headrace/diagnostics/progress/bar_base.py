"""What all progress bars share: they follow futures, and are told how far these are. Shows nothing itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from headrace.config import parse_seconds

from .feed import ProgressFeed, Snapshot

__all__ = ["MultiProgressBar", "ProgressBar"]


class ProgressBar:
    """Follows futures, and all that they need, until they are done; subclasses show it.

    Args:
        keys: futures, containers of futures, persisted collections, or keys (text) of the current client.
        scheduler: accepted for compatibility; futures know theirs.
        interval: seconds, or text such as "100ms", between two looks at most.
        complete: count what is done at the start as well.
        group_by: what makes a group: "prefix", "spans", or a function of a key that gives its group's name.

    Raises:
        ValueError: `group_by` is something else, or the futures are of several schedulers.
    """

    def __init__(
        self,
        keys: Any,
        scheduler: Any = None,
        interval: float | str = "100ms",
        complete: bool = True,
        *,
        group_by: Any = "prefix",
    ) -> None:
        self.scheduler = scheduler
        self.interval = parse_seconds(interval)
        self.feed = ProgressFeed(
            _futures(keys), group_by=group_by, complete=complete, interval=self.interval, on_news=self._on_news
        )

    @property
    def elapsed(self) -> float:
        """Seconds since this was made."""
        return self.feed.elapsed

    @property
    def status(self) -> Snapshot:
        """How far it is now."""
        return self.feed.now()

    def _on_news(self, snapshot: Snapshot) -> None:
        """The counts have changed; called on the client's loop."""

    def draw(self, snapshot: Snapshot) -> None:
        """Show it."""

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
        return snapshot


class MultiProgressBar(ProgressBar):
    """As `ProgressBar`, by group; it shows nothing itself, see `MultiProgressWidget` and `TextProgressBar`."""

    def __init__(
        self,
        keys: Any,
        scheduler: Any = None,
        group_by: Any = "prefix",
        interval: str | float = "100ms",
        complete: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, scheduler, interval, complete, group_by=group_by, **kwargs)


def _futures(values: Any) -> list[Any]:
    """The futures in what a user gave, each once."""
    from headrace.client import Future, futures_of

    given = [values] if isinstance(values, str) or not isinstance(values, Iterable) else list(values)
    named = [Future(key) for key in _texts(given)]
    found = named if named and len(named) == len(given) else [*futures_of(given), *named]
    return list({id(future._bound()): future for future in found}.values())


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _texts(value)
