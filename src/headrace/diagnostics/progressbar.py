"""The progress of futures on a terminal: done, failed, running, rate and time left.

Looks at the futures that the client already follows. The scheduler is asked for one number only, how many tasks run,
and the bar never waits for the answer.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TextIO

from dask.utils import parse_timedelta

__all__ = ["ProgressBar", "TextProgressBar", "progress"]

_EIGHTHS = " ▏▎▍▌▋▊▉█"
#: A look at all futures may take at most this share of the time between two looks.
_LOOK_SHARE = 0.05
#: Without a terminal there is a line each time this share more is done.
_LINE_SHARE = 0.25


@dataclass(frozen=True)
class Progress:
    """How far a set of futures is.

    Attributes:
        done: futures that have a result.
        erred: futures that failed, or were cancelled or lost.
        total: all of them.
        elapsed: seconds since the first look.
        running: tasks that run in the cluster, whoever wants them; None while the scheduler has not said.
    """

    done: int
    erred: int
    total: int
    elapsed: float
    running: int | None = None

    @property
    def finished(self) -> bool:
        return self.done + self.erred >= self.total

    @property
    def fraction(self) -> float:
        return (self.done + self.erred) / self.total if self.total else 1.0

    @property
    def rate(self) -> float:
        """Futures that completed per second so far."""
        return (self.done + self.erred) / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds left at the rate so far; None while there is none."""
        return (self.total - self.done - self.erred) / self.rate if self.rate else None


def format_seconds(seconds: float) -> str:
    """A short duration.

    >>> format_seconds(1.234), format_seconds(75), format_seconds(7300)
    ('1.2s', '1m 15s', '2h 01m')
    """
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m"


def render_bar(fraction: float, width: int, unicode: bool = True) -> str:
    """A bar of `width` characters.

    >>> render_bar(0.5, 8, unicode=False)
    '####    '
    """
    if not unicode:
        return ("#" * int(fraction * width)).ljust(width)
    eighths = int(fraction * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[part] if full < width else "")).ljust(width)


def render_line(progress: Progress, width: int = 40, unicode: bool = True, label: str = "") -> str:
    """The whole line.

    >>> render_line(Progress(done=3, erred=1, total=8, elapsed=2.0, running=2), width=8, unicode=False)
    '[####    ]  50% | 4/8, 1 failed, 2 running | 2 tasks/s | 2.0s, 2.0s left'
    """
    count = f"{progress.done + progress.erred:,}/{progress.total:,}"
    if progress.erred:
        count += f", {progress.erred:,} failed"
    if progress.running is not None and not progress.finished:
        count += f", {progress.running:,} running"
    took = format_seconds(progress.elapsed)
    if progress.finished:
        took = f"in {took}"
    elif progress.remaining is not None:
        took += f", {format_seconds(progress.remaining)} left"
    bar = render_bar(progress.fraction, width, unicode)
    # rounded down: 100% means that nothing is left
    text = f"[{bar}] {int(progress.fraction * 100):3d}% | {count} | {progress.rate:,.0f} tasks/s | {took}"
    return f"{label} {text}" if label else text


class _RunningCount:
    """Asks the scheduler how many tasks run, again and again, and remembers what it last said."""

    def __init__(self, futures: Sequence[Any]) -> None:
        client = getattr(futures[0], "client", None) if futures else None
        self._client = client
        self._question: Future[int] | None = None
        self._answer: int | None = None

    def look(self) -> int | None:
        """The latest answer; asks anew once the previous question is answered."""
        question = self._question
        if question is not None:
            if not question.done():
                return self._answer
            # A connection that breaks, or a client that is closed, is for the futures to tell.
            self._answer = None if question.cancelled() or question.exception() else question.result()
        if self._client is not None:
            self._question = self._client.ask_in_background("count_running")
        return self._answer


class TextProgressBar:
    """A line on the terminal that follows futures until all are done.

    Args:
        keys: the futures to follow (collections and containers of futures as well).
        scheduler: accepted for compatibility; futures know theirs.
        interval: time between two looks, such as `"100ms"`.
        width: of the bar, in characters.
        loop: accepted for compatibility.
        complete: count futures that are done at the start as well.
        start: follow at once, and return when all are done; not within a running event loop, where `listen` does it.
        file: where it is drawn; standard output by default. Without a terminal it writes a line per quarter.
        label: text before the bar.
    """

    def __init__(
        self,
        keys: Any,
        scheduler: Any = None,
        interval: str | float = "100ms",
        width: int = 40,
        loop: Any = None,
        complete: bool = True,
        start: bool = True,
        file: TextIO | None = None,
        label: str = "",
        **kwargs: Any,
    ) -> None:
        futures = _futures(keys)
        self.interval = float(parse_timedelta(interval, default="ms"))
        self.width = width
        self.label = label
        self.loop = loop
        self.file = file or sys.stdout
        self._pending: Sequence[Any] = futures if complete else [future for future in futures if not future.done()]
        self._total = len(self._pending)
        self._running = _RunningCount(futures)
        self._erred = 0
        self._started = time.perf_counter()
        self._pause = self.interval
        self._terminal = self.file.isatty()
        self._unicode = (getattr(self.file, "encoding", None) or "").lower().startswith("utf")
        self._drawn = 0  # characters on the line now
        self._next_line = _LINE_SHARE
        if start and not _in_event_loop():
            self.run()

    @property
    def elapsed(self) -> float:
        """Seconds since the bar was made."""
        return time.perf_counter() - self._started

    def look(self) -> Progress:
        """Look at the futures that were not done yet."""
        begin = time.perf_counter()
        still = []
        for future in self._pending:
            status = future.status
            if status == "pending":
                still.append(future)
            elif status != "finished":
                self._erred += 1
        self._pending = still
        now = time.perf_counter()
        self._pause = max(self.interval, (now - begin) / _LOOK_SHARE)
        done = self._total - len(still) - self._erred
        return Progress(done, self._erred, self._total, now - self._started, self._running.look() if still else None)

    def draw(self, progress: Progress) -> None:
        if not self._terminal:
            if progress.fraction >= self._next_line or progress.finished:
                self._next_line = progress.fraction + _LINE_SHARE
                print(render_line(progress, self.width, self._unicode, self.label), file=self.file, flush=True)
            return
        columns = shutil.get_terminal_size().columns - 1
        line = render_line(progress, self.width, self._unicode, self.label)
        if len(line) > columns:
            line = render_line(progress, max(4, self.width - len(line) + columns), self._unicode, self.label)[:columns]
        self.file.write("\r" + line.ljust(self._drawn))
        self._drawn = len(line)
        self.file.flush()

    def run(self) -> Progress:
        """Follow until all are done; blocks."""
        return self._drive(self._block_on)

    async def listen(self) -> Progress:
        """Follow until all are done, within an event loop."""
        while not (progress := self.look()).finished:
            self.draw(progress)
            await asyncio.sleep(self._pause)
        self._finish(progress)
        return progress

    def _drive(self, pause: Callable[[Any, float], None]) -> Progress:
        try:
            while not (progress := self.look()).finished:
                self.draw(progress)
                pause(self._pending[-1], self._pause)
        except BaseException:  # Ctrl-C: leave the terminal on a new line
            if self._terminal and self._drawn:
                print(file=self.file)
            raise
        self._finish(progress)
        return progress

    def _finish(self, progress: Progress) -> None:
        self.draw(progress)
        if self._terminal:
            print(file=self.file, flush=True)

    @staticmethod
    def _block_on(future: Any, seconds: float) -> None:
        # the last future is likely to be the last one done: waiting on it ends the bar without a pause
        from headrace.client import wait

        try:
            wait([future], timeout=seconds)
        except TimeoutError:
            pass
        except Exception:  # a cancelled future: the next look counts it
            time.sleep(min(seconds, 0.01))


ProgressBar = TextProgressBar


def progress(
    *futures: Any,
    notebook: bool | None = None,
    multi: bool = True,
    complete: bool = True,
    group_by: Any = "prefix",
    **kwargs: Any,
) -> TextProgressBar | None:
    """Show the progress of futures or persisted collections on the terminal until they are done.

    Within a running event loop it returns at once with a bar whose `listen()` follows them.

    Args:
        futures: futures, containers of futures, or persisted collections.
        notebook, multi, group_by: accepted for compatibility; there is one line for all.
        complete: count futures that are done at the start as well.
        kwargs: see `TextProgressBar`.
    """
    bar = TextProgressBar(futures, complete=complete, **kwargs)
    return bar if _in_event_loop() else None


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _futures(values: Any) -> list[Any]:
    from headrace.client import futures_of

    if isinstance(values, Iterable) and not isinstance(values, str | bytes):
        return list(futures_of(list(values)))
    return list(futures_of([values]))
