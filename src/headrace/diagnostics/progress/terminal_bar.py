"""Progress on a terminal, or in a file: lines that are drawn anew in their place, or one a quarter."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from typing import TYPE_CHECKING, TextIO

from headrace.common.display.notebook import is_kernel

from .bar_base import ProgressBar
from .bar_text import (
    choose_groups,
    render_errors,
    render_groups,
    render_line,
)
from .feed import GroupBy, Snapshot

if TYPE_CHECKING:
    from headrace.client.client import Client

#: Without a terminal there is a line each time this share more is done.
_LINE_SHARE = 0.25
_CLEAR_REST = "\x1b[K"


class TextProgressBar(ProgressBar):
    """Lines on the terminal that follow futures until all are done.

    Args:
        keys, scheduler, interval, complete: see `ProgressBar`.
        width: of the bar, in characters.
        loop: accepted for compatibility.
        start: follow at once, and return when all are done; not within a running event loop, where `listen` does it.
        file: where it is drawn; standard output by default. Without a terminal it writes a line per quarter.
        label: text before the bar.
        group_by: a line for each group as well; `None` for one line only.
        kwargs: accepted for compatibility.
    """

    def __init__(
        self,
        keys: object,
        scheduler: object = None,
        interval: str | float = "100ms",
        width: int = 40,
        loop: object = None,
        complete: bool = True,
        start: bool = True,
        *,
        file: TextIO | None = None,
        label: str = "",
        group_by: GroupBy | None = None,
        **kwargs: object,
    ) -> None:
        self.width = width
        self.label = label
        self.loop = loop
        self.file = file or sys.stdout
        self._groups = group_by is not None
        self._terminal = self.file.isatty() and os.environ.get("TERM") != "dumb"
        self._unicode = (getattr(self.file, "encoding", None) or "").lower().startswith("utf")
        self._lines = 0  # on the terminal now
        self._next_line = _LINE_SHARE
        super().__init__(keys, scheduler, interval, complete, group_by="prefix" if group_by is None else group_by)
        if start and not must_not_block(self.feed.client):
            self.run()

    def draw(self, snapshot: Snapshot) -> None:
        if type(self)._draw_bar is not ProgressBar._draw_bar:  # a subclass draws in its own way
            super().draw(snapshot)
            return
        if not self._terminal:
            if snapshot.total and snapshot.fraction >= self._next_line and not snapshot.finished:
                self._next_line = snapshot.fraction + _LINE_SHARE
                print(render_line(snapshot, self.width, self._unicode, self.label), file=self.file, flush=True)
            return
        size = shutil.get_terminal_size()
        self._redraw(self._rendered(snapshot, size.columns - 1, size.lines - 2))

    def _rendered(self, snapshot: Snapshot, columns: int, rows: int) -> list[str]:
        lines = [render_line(snapshot, self.width, self._unicode, self.label, columns)]
        if self._groups:
            chosen = choose_groups(snapshot.groups, rows)
            lines += render_groups(chosen, columns, self.width // 2, self._unicode)
        return lines

    def _redraw(self, lines: list[str]) -> None:
        """Put these lines in the place of the last ones."""
        up = f"\x1b[{self._lines - 1}A" if self._lines > 1 else ""
        lines = lines + [""] * (self._lines - len(lines))
        # without groups nothing but the carriage's return is asked of the terminal
        text = ("\n" if len(lines) > 1 else "").join(line + _CLEAR_REST for line in lines)
        self.file.write(f"{up}\r{text}")
        self._lines = len(lines)
        self.file.flush()

    def _interrupted(self) -> None:
        super()._interrupted()
        if self._terminal and self._lines:  # leave the terminal on a new line
            print(file=self.file)

    def _ended(self, snapshot: Snapshot) -> Snapshot:
        super()._ended(snapshot)
        if type(self)._draw_stop is not ProgressBar._draw_stop:
            return snapshot
        if self._terminal:
            print(file=self.file)
        else:
            for line in self._rendered(snapshot, 200, 20):
                print(line, file=self.file)
        for line in render_errors(snapshot):
            print(line, file=self.file)
        if snapshot.problem:
            print(f"  stopped: {snapshot.problem}", file=self.file)
        self.file.flush()
        return snapshot


def must_not_block(client: Client | None) -> bool:
    """True if the caller is on an event loop that has to go on.

    A kernel runs cells within its loop, but expects them to block; not so on the client's own.
    """
    running = asyncio._get_running_loop()
    if running is None:
        return False
    return not is_kernel() or (client is not None and running is client.loop.asyncio_loop)
