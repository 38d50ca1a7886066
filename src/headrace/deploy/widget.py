"""A cluster in a notebook: its state, kept up to date, and controls that scale it. Needs `ipywidgets`.

The controls call `scale` and `adapt` of the cluster, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import ipywidgets

from headrace.common.display.html import RED, Html, join
from headrace.config import get, parse_seconds
from headrace.rpc import PeriodicCallback

from .cluster_card import cluster_html

if TYPE_CHECKING:
    from .cluster import Cluster

logger = logging.getLogger("distributed.deploy.cluster")


class ClusterWidget:
    """The widget by which a notebook shows a cluster.

    Attributes:
        box: the whole widget.
        status: the card.
        workers, scale: the number of workers to have, and the button that asks for it.
        minimum, maximum, adapt: bounds (a maximum of 0 is none), and the button that has the cluster adapt.
        message: the outcome of the last click.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.status = ipywidgets.HTML(value=str(cluster_html(cluster)))
        self.message = ipywidgets.HTML()
        self.workers = _number(len(cluster.plan), "Number of workers to have")
        self.minimum = _number(0, "Fewest workers")
        self.maximum = _number(0, "Most workers; 0 for no bound")
        self.scale = _button("Scale", "Have this many workers, from now on", self._on_scale)
        self.adapt = _button("Adapt", "Have as many workers as the work needs, within these bounds", self._on_adapt)
        children: list[Any] = [self.status]
        if cluster._supports_scaling:
            children += [
                ipywidgets.HBox([_label("Workers"), self.workers, self.scale]),
                ipywidgets.HBox(
                    [_label("Adaptive"), self.minimum, ipywidgets.Label("to"), self.maximum, self.adapt],
                ),
                self.message,
            ]
        self.box = ipywidgets.VBox(children)
        # The card is only sent to the notebook when it has changed.
        interval = parse_seconds(get("distributed.deploy.cluster-repr-interval"))
        self._callback = PeriodicCallback(self.update, 1000 * interval)
        cluster.periodic_callbacks["widget"] = self._callback
        # In an empty context: the kernel would take later updates for output of the cell that shows this widget.
        contextvars.Context().run(cluster.loop.add_callback, self._start)

    def _start(self) -> None:
        if self._cluster._is_up():
            self._callback.start()

    def update(self) -> None:
        """Show the cluster's present state."""
        try:
            html = str(cluster_html(self._cluster))
            if html != self.status.value:
                self.status.value = html
        except Exception:  # the notebook is gone: no reason to disturb the cluster
            logger.debug("Could not show the cluster", exc_info=True)

    def _on_scale(self, _: object) -> None:
        count = self.workers.value

        def scale() -> Any:
            if self._cluster._adaptive is not None:
                self._cluster._adaptive.stop("the notebook asked for a number of workers")
            return self._cluster.scale(count)

        self._do(scale, f"asked for {count} worker{'' if count == 1 else 's'}")

    def _on_adapt(self, _: object) -> None:
        minimum, maximum = self.minimum.value, self.maximum.value or math.inf
        bound = f"to {maximum}" if self.maximum.value else "and more"
        self._do(lambda: self._cluster.adapt(minimum=minimum, maximum=maximum), f"adapts: {minimum} {bound} workers")

    def _do(self, action: Callable[[], Any], done: str) -> None:
        """Act on a click, and show its outcome, or its error, beside the buttons."""
        try:
            result = action()
            if isawaitable(result):
                asyncio.ensure_future(result).add_done_callback(self._look_at)
        except Exception as error:
            self._say(error)
            return
        self.message.value = join([done])
        self.update()

    def _look_at(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self._say(error)

    def _say(self, error: BaseException) -> None:
        self.message.value = Html(f'<span style="color:{RED}">{join([f"{type(error).__name__}: {error}"])}</span>')


def _number(value: int, tooltip: str) -> Any:
    layout = ipywidgets.Layout(width="90px")
    return ipywidgets.BoundedIntText(value=value, min=0, max=1_000_000, tooltip=tooltip, layout=layout)


def _label(text: str) -> Any:
    return ipywidgets.Label(text, layout=ipywidgets.Layout(width="70px"))


def _button(text: str, tooltip: str, on_click: Callable[[Any], None]) -> Any:
    button = ipywidgets.Button(description=text, tooltip=tooltip, layout=ipywidgets.Layout(width="90px"))
    button.on_click(on_click)
    return button
