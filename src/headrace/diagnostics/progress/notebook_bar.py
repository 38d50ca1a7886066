"""Progress in a notebook: a widget that the client's loop updates as counts come, or plain HTML without `ipywidgets`.

Nothing here counts: the base class (`bar_base`) follows the futures.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from headrace.common.display.notebook import widgets_module

from .bar_base import MultiProgressBar, ProgressBar
from .bar_html import render_progress
from .feed import Group, Snapshot

logger = logging.getLogger("distributed.diagnostics.progress")

NO_WIDGETS = "ipywidgets is not installed, so this is plain HTML; pip install ipywidgets gives a widget."


class _Shown:
    """The part of a bar that a notebook shows.

    Attributes:
        widget: the `ipywidgets.HTML`; `None` without ipywidgets.
    """

    _multi = False
    widget: Any = None
    _handles: tuple[Any, ...] = ()

    def _prepare(self) -> None:
        """Make the widget; to be called before the first snapshot comes."""
        self._handles = ()
        self._html = render_progress(Snapshot(), multi=self._multi)
        self._make(self._html)

    def _make(self, html: str) -> None:
        module = widgets_module()
        self.widget = module.HTML(value=str(html)) if module is not None else None

    def draw(self, snapshot: Snapshot) -> None:
        """Show a snapshot wherever the notebook shows this bar."""
        html = render_progress(snapshot, multi=self._multi, note="" if self.widget is not None else NO_WIDGETS)
        if html == self._html:
            return
        self._html = html
        try:
            if self.widget is not None:
                self.widget.value = str(html)
            for handle in self._handles:
                handle.update(_Display(html))
        except Exception:  # the notebook is gone: the feed goes on
            logger.debug("Could not show progress", exc_info=True)

    def _on_news(self, snapshot: Snapshot) -> None:
        self.draw(snapshot)

    def _repr_html_(self) -> str:
        return self._html

    def _ipython_display_(self, **kwargs: object) -> None:
        from IPython.display import display

        if self.widget is not None:
            display(self.widget)
            return
        shown = self._html
        handle = display(_Display(shown), display_id=True)
        if handle is not None:
            self._handles = (*self._handles, handle)
            if self._html is not shown:  # news came while it was being shown
                handle.update(_Display(self._html))


class _Display:
    """Text and HTML of the same, for front ends that show one of the two."""

    def __init__(self, html: str) -> None:
        self._html = html

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return "<Progress>"


class ProgressWidget(_Shown, ProgressBar):
    """One bar for all, in a notebook; it follows by itself, and is shown when it is the value of a cell.

    Args:
        keys, scheduler, interval, complete: see `ProgressBar`.
        loop: accepted for compatibility.
    """

    def __init__(
        self,
        keys: object,
        scheduler: object = None,
        interval: str | float = "100ms",
        complete: bool = False,
        loop: object = None,
        **kwargs: Any,
    ) -> None:
        self._prepare()
        ProgressBar.__init__(self, keys, scheduler, interval, complete, **kwargs)


class MultiProgressWidget(_Shown, MultiProgressBar):
    """A bar for each group, and one for all, in a notebook.

    Args:
        keys, scheduler: see `ProgressBar`.
        minimum: accepted for compatibility.
        kwargs: `group_by`, `interval` and `complete`, see `MultiProgressBar`.
    """

    _multi = True

    def __init__(self, keys: object, scheduler: object = None, minimum: float = 0, **kwargs: Any) -> None:
        self._prepare()
        MultiProgressBar.__init__(self, keys, scheduler, **kwargs)

    def make_widget(self, all: Mapping[str, int]) -> Any:
        """Make the widget anew, for groups of so many tasks each; returns it (`None` without ipywidgets)."""
        groups = tuple([Group(name, total) for name, total in all.items()])
        self._html = render_progress(Snapshot(groups, sum(all.values())), multi=True)
        self._make(self._html)
        return self.widget
