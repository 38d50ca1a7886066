"""Statistical profiles as pages: an icicle graph, outermost calls at the top, and the functions that took most time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.profile import color_of

from .page import chart, number_in_words, page, seconds_in_words, section, table
from .stream_drawings import Figure

#: Calls that were seen in a smaller share of all samples are left out.
SMALLEST = 0.0015
#: Calls within calls that are drawn.
DEEPEST = 60
#: Functions in the table.
FUNCTIONS = 12


def flame_data(state: Mapping[str, Any], interval: float) -> dict[str, Any]:
    """Data for the script: texts, colors, and nodes `[samples, depth, left, width, name, place, color, line]`."""
    total = state["count"]
    texts: dict[str, int] = {}
    colors: dict[str, int] = {}
    nodes: list[list[Any]] = []
    stack: list[tuple[Mapping[str, Any], int, float]] = [(state, 0, 0.0)]
    while stack:
        node, depth, left = stack.pop()
        what = node["description"]
        place = f"{what['filename']}:{what['line_number']}"
        line = (what.get("line") or "").strip()[:200]
        nodes.append(
            [
                node["count"],
                depth,
                round(left, 6),
                round(node["count"] / total, 6),
                texts.setdefault(what["name"], len(texts)),
                texts.setdefault(place, len(texts)),
                colors.setdefault(color_of(what["filename"]), len(colors)),
                texts.setdefault(line, len(texts)) if line else -1,
            ]
        )
        for child in sorted(_calls(node), key=lambda child: -child["count"]):
            if child["count"] >= SMALLEST * total and depth < DEEPEST:
                stack.append((child, depth + 1, left))
            left += child["count"] / total
    return {"interval": interval, "texts": list(texts), "colors": list(colors), "nodes": nodes}


def _calls(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Calls within a call. The machinery of imports is left out: five calls of it stand for one import."""
    found: list[Mapping[str, Any]] = []
    stack = list(node["children"].values())
    while stack:
        child = stack.pop()
        if child["description"]["filename"].startswith("<frozen importlib"):
            if child["children"]:
                stack.extend(child["children"].values())
        else:
            found.append(child)
    return found


def hottest(state: Mapping[str, Any]) -> list[tuple[str, str, int, int]]:
    """Functions by how often they themselves were running: (name, file, samples of their own, samples with calls)."""
    own: dict[tuple[str, str], int] = {}
    whole: dict[tuple[str, str], int] = {}
    stack: list[tuple[Mapping[str, Any], frozenset[tuple[str, str]]]] = [(state, frozenset())]
    while stack:
        node, above = stack.pop()
        what = node["description"]
        name = (what["name"], what["filename"])
        if what["name"]:
            inner = sum(child["count"] for child in node["children"].values())
            own[name] = own.get(name, 0) + max(0, node["count"] - inner)
            if name not in above:  # a recursive function counts once
                whole[name] = whole.get(name, 0) + node["count"]
            above = above | {name}
        stack.extend((child, above) for child in node["children"].values())
    found = [(*name, own[name], whole[name]) for name in own]
    return sorted(found, key=lambda each: (-each[2], -each[3]))


def flame_chart(name: str, state: Mapping[str, Any], interval: float) -> str:
    """The graph and the table of one profile."""
    total = state["count"]
    if not total:
        return '<p class="empty">No samples were taken: nothing ran for long enough.</p>'
    data = flame_data(state, interval)
    label = f"Profile of {total} samples"
    drawn = chart("flame", name, data, label, "Point at a call to see where it is; click it to see it alone.")
    rows = [
        (
            function,
            filename,
            seconds_in_words(own * interval),
            f"{100 * own / total:.1f} %",
            seconds_in_words(whole * interval),
            f"{100 * whole / total:.1f} %",
        )
        for function, filename, own, whole in hottest(state)[:FUNCTIONS]
    ]
    head = ("function", "file", "itself", "share", "with calls", "share")
    return f"{drawn}<h3>Functions by their own time</h3>{table(head, rows, left=2)}"


def profile_page(state: Mapping[str, Any], interval: float, title: str = "Profile") -> str:
    """A whole page that shows one profile."""
    samples = f"{number_in_words(state['count'])} samples, one every {seconds_in_words(interval)} and running thread"
    return page(title, section("profile", title, flame_chart("profile-data", state, interval), samples))


def profile_figure(state: Mapping[str, Any], interval: float) -> Figure:
    """The same for a notebook."""
    return Figure(profile_page(state, interval), 560)
