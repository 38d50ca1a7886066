"""`distributed.profile`: `headrace.profile`, with low-level stacks, and drawings by bokeh.

Ours are drawn by `headrace.diagnostics.pages`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

from headrace.common.facade import names_before
from headrace.profile import MAX_DEPTH, color_of

__getattr__ = names_before(__name__, "headrace.profile")


def ll_get_stack(tid: int) -> Any:
    """The low-level frames of a thread, outermost first, by the package `stacktrace`; None without that package."""
    try:
        package = importlib.import_module("stacktrace")
    except ImportError:
        return None
    return package.get_thread_stack(tid, show_python=False)


def llprocess(frames: Iterable[Any] | None, child: object, state: dict[str, Any] | None) -> dict[str, Any] | None:
    """Count a stack of low-level frames in a profile.

    Args:
        frames: outermost first, with attributes `name` and `addr` and perhaps `info`; None for no stack.
        child: accepted for compatibility.
        state: the profile; changed in place.

    Returns:
        The profile.
    """
    if not frames or state is None:
        return state
    state["count"] += 1
    node = state
    for frame in list(frames)[:MAX_DEPTH]:
        address = getattr(frame, "addr", 0)
        name = f"{frame.name};{address:x}" if isinstance(address, int) else f"{frame.name};{address}"
        description = {"filename": "<low-level>", "name": str(frame.name), "line_number": 0, "line": ""}
        if getattr(frame, "info", None):
            description["line"] = str(frame.info)
        node = node["children"].setdefault(
            name, {"count": 0, "children": {}, "identifier": name, "description": description}
        )
        node["count"] += 1
    return state


def plot_data(state: dict[str, Any], profile_interval: float = 0.01) -> dict[str, list[Any]]:
    """Columns for a flame graph: one rectangle a node, parents before children, the root from 0 to 1.

    Args:
        profile_interval: seconds between two samples.
    """
    names = ("left", "right", "bottom", "width", "top", "color", "states", "name", "filename", "line_number", "line")
    columns: dict[str, list[Any]] = {name: [] for name in (*names, "time", "percentage")}
    total = state["count"]
    for node, depth, left, width in _rectangles(state, 0, 0.0, 1.0):
        description = node["description"]
        values = {
            "left": left,
            "right": left + width,
            "bottom": depth,
            "width": width,
            "top": depth + 1,
            "color": color_of(description["filename"]),
            "states": node,
            **description,
            "time": format_time(node["count"] * profile_interval),
            "percentage": f"{100 * node['count'] / total:.1f}%" if total else "0.0%",
        }
        for name, value in values.items():
            columns[name].append(value)
    return columns


def _rectangles(
    node: dict[str, Any], depth: int, left: float, width: float
) -> Iterator[tuple[dict[str, Any], int, float, float]]:
    yield node, depth, left, width
    each = width / node["count"] if node["count"] else 0.0
    for child in sorted(node["children"].values(), key=lambda child: -child["count"]):
        share = each * child["count"]
        yield from _rectangles(child, depth + 1, left, share)
        left += share


def format_time(seconds: float) -> str:
    """A duration in words, such as `20.00 ms`."""
    for factor, unit in ((1, "s"), (1e-3, "ms")):
        if seconds >= factor:
            return f"{seconds / factor:.2f} {unit}"
    return f"{seconds * 1e6:.2f} us"


def plot_figure(data: dict[str, list[Any]], **kwargs: object) -> Any:
    """A bokeh figure of the columns of `plot_data`, and the figure's data source.

    Raises:
        ImportError: bokeh is not installed.
    """
    try:
        from bokeh.models import ColumnDataSource, HoverTool
        from bokeh.plotting import figure
    except ImportError as error:
        raise ImportError(
            "plot_figure needs bokeh (pip install bokeh); Client.profile(filename='profile.html') works without"
        ) from error
    source = ColumnDataSource(data={name: column for name, column in data.items() if name != "states"})
    plot = figure(tools="tap,box_zoom,xwheel_zoom,reset", **kwargs)
    plot.quad("left", "right", "top", "bottom", color="color", line_color="black", source=source)
    plot.add_tools(
        HoverTool(tooltips=[(name, f"@{name}") for name in ("name", "filename", "line", "time", "percentage")])
    )
    return plot, source
