"""Progress bars: of futures and of all that they need, on a terminal or in a notebook.

The counts are pushed by the scheduler; nothing is asked for again and again, and nothing is counted where nobody looks.
"""

from __future__ import annotations

from typing import Any

from headrace.common.display.notebook import is_kernel

from .progress.bar_base import MultiProgressBar, ProgressBar
from .progress.feed import GroupBy
from .progress.notebook_bar import MultiProgressWidget, ProgressWidget
from .progress.terminal_bar import TextProgressBar, must_not_block

__all__ = [
    "MultiProgressBar",
    "MultiProgressWidget",
    "ProgressBar",
    "ProgressWidget",
    "TextProgressBar",
    "get_scheduler",
    "progress",
]


def progress(
    *futures: object,
    notebook: bool | None = None,
    multi: bool = True,
    complete: bool = True,
    group_by: GroupBy = "prefix",
    **kwargs: Any,
) -> ProgressBar | None:
    """Show how far futures or persisted collections are, with all that they need.

    On a terminal it returns when all are done; within a running event loop at once, with a bar whose `listen()` is to
    be awaited. In a notebook it returns a widget at once, which follows them by itself; it is shown when it is the last
    expression of its cell, or given to `display`.

    Args:
        futures: futures, containers of futures, persisted collections, or keys (text).
        notebook: whether to make a widget; found out by default.
        multi: show each group on its own as well.
        complete: count tasks that are done at the start as well.
        group_by: "prefix" (of the keys), "spans", or a function of a key that gives its group's name.
        kwargs: such as `interval`; for terminals see `TextProgressBar`.
    """
    if is_kernel() if notebook is None else notebook:
        if multi:
            return MultiProgressWidget(futures, complete=complete, group_by=group_by, **kwargs)
        return ProgressWidget(futures, complete=complete, **kwargs)
    bar = TextProgressBar(futures, complete=complete, group_by=group_by if multi else None, **kwargs)
    return bar if must_not_block(bar.feed.client) else None


def get_scheduler(scheduler: Any = None) -> Any:
    """The address of a scheduler: of the current client's by default, or of anything that has an address."""
    from headrace.client import default_client
    from headrace.comm import normalize_address

    if scheduler is None:
        return default_client().session.address
    return normalize_address(scheduler if isinstance(scheduler, str) else scheduler.address)
