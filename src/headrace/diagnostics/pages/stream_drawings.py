"""Drawings of the stream of tasks: each run on its thread over time, and the number of tasks that ran at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from headrace.common.keys import from_wire, key_group, key_prefix
from headrace.private_directories import open_named

from .page import chart, framed, page, seconds_in_words, section
from .task_colors import color_of_task

if TYPE_CHECKING:
    from headrace.diagnostics.task_stream import Run

#: Runs that are drawn; of more, those that took longest.
MOST = 40_000
#: Texts of failures and keys are cut at so many characters.
LONGEST = 200
#: Prefixes that the legend names.
LEGEND = 14
_ACTIONS = {"compute": 0, "transfer": 1, "load": 2}


def name_of(run: Run) -> str:
    """The prefix of a run's key."""
    return key_prefix(key_group(run.key))


def worker_label(address: str, names: Mapping[str, Any]) -> str:
    """A short name of a worker: its name, or its address without the scheme."""
    name = names.get(address)
    return str(name) if name is not None and str(name) != address else address.rpartition("://")[2]


def span_of(runs: Sequence[Run]) -> tuple[float, float]:
    """The start of the first of some runs and the end of the last one, in seconds since the epoch."""
    times = [(begin, end) for run in runs for _, begin, end in run.startstops if end]
    if not times:
        return 0.0, 0.0
    return min(begin for begin, _ in times), max(end for _, end in times)


def stream_data(runs: Sequence[Run], names: Mapping[str, Any], start: float, stop: float) -> dict[str, Any]:
    """Data for the script to draw: rows, names, colors, keys, and runs.

    A run is `[row, start, seconds, action, name, key, error, nbytes]`, an entry for each action.
    """
    rows: dict[tuple[str, int], int] = {}
    for worker, thread in sorted({(run.worker, run.thread) for run in runs}, key=lambda row: _order(row, names)):
        rows[worker, thread] = len(rows)
    prefixes: dict[str, int] = {}
    keys: list[str] = []
    lines: list[list[Any]] = []
    if len(runs) > MOST:
        runs = sorted(runs, key=lambda run: run.startstops[0][1] - run.startstops[0][2])[:MOST]
    for run in runs:
        prefix = prefixes.setdefault(name_of(run), len(prefixes))
        keys.append(str(from_wire(run.key))[:LONGEST])
        row = rows[run.worker, run.thread]
        error = 0 if run.status == "OK" else run.exception[:LONGEST] or "unknown"
        for action, begin, end in run.startstops:
            if end:
                spent = [round(begin - start, 6), round(max(0.0, end - begin), 6)]
                code = _ACTIONS.get(action, 2)
                lines.append([row, *spent, code, prefix, len(keys) - 1, error if not code else 0, run.nbytes])
    lines.sort(key=lambda line: line[3] != 0)
    return {
        "span": max(1e-6, stop - start),
        "rows": [[worker_label(worker, names), f"{worker}, thread {thread}"] for worker, thread in rows],
        "names": list(prefixes),
        "colors": [color_of_task(prefix) for prefix in prefixes],
        "keys": keys,
        "runs": lines,
    }


def _order(row: tuple[str, int], names: Mapping[str, Any]) -> tuple[Any, ...]:
    label = worker_label(row[0], names)
    return (0, int(label), row[1]) if label.isdigit() else (1, label, row[1])


def legend(runs: Sequence[Run]) -> str:
    """The meaning of the colors: the prefixes that took longest, transfers, reading from disk, failures."""
    spent: dict[str, float] = {}
    actions = set()
    for run in runs:
        name = name_of(run)
        for action, begin, end in run.startstops:
            if action == "compute":
                spent[name] = spent.get(name, 0.0) + end - begin
            else:
                actions.add(action)
    names = sorted(spent, key=lambda name: -spent[name])
    entries = [(color_of_task(name), name) for name in names[:LEGEND]]
    if "transfer" in actions:
        entries.append(("var(--transfer)", "transfer"))
    if actions - {"transfer"}:
        entries.append(("var(--load)", "read from disk"))
    if any(run.status != "OK" for run in runs):
        entries.append(("var(--text)", "failed"))
    shown = "".join(
        f'<li><span class="swatch" style="background:{color}"></span>{escape(name)}</li>' for color, name in entries
    )
    more = f"<li>… and {len(names) - LEGEND} more</li>" if len(names) > LEGEND else ""
    return f'<ul class="legend">{shown}{more}</ul>'


def stream_chart(runs: Sequence[Run], names: Mapping[str, Any], start: float, stop: float) -> str:
    """The drawing, with its legend."""
    if not runs:
        return '<p class="empty">No task has ended in this time.</p>'
    data = stream_data(runs, names, start, stop)
    hint = "Point at a task to see what it is. Drag over a span to zoom in, double click to see all again; "
    hint += "or use the keys + − ← → and Escape."
    if len(runs) > MOST:
        hint += f" Of {len(runs)} tasks, the {MOST} longest are drawn."
    label = f"Task stream: {len(runs)} tasks in {len(data['rows'])} threads over {seconds_in_words(stop - start)}"
    return legend(runs) + chart("stream", "stream-data", data, label, hint)


def busy_over_time(runs: Sequence[Run], start: float, stop: float, steps: int = 240) -> list[float]:
    """The mean number of tasks that were computed at a time, in each of so many spans of equal length."""
    width = (stop - start) / steps
    found = [0.0] * steps
    if width <= 0:
        return found
    for run in runs:
        for action, begin, end in run.startstops:
            if action != "compute" or end <= begin:
                continue
            low, high = max(0.0, (begin - start) / width), min(float(steps), (end - start) / width)
            first, last = int(low), min(steps - 1, int(high))
            if first == last:
                found[first] += high - low
                continue
            found[first] += first + 1 - low
            for step in range(first + 1, last):
                found[step] += 1.0
            found[last] += high - last
    return found


def line_plot(
    points: Sequence[tuple[float, float]],
    limit: float,
    words: Callable[[float], str],
    span: float,
    label: str,
    height: int = 130,
) -> str:
    """A curve over time, as SVG.

    Args:
        points: (seconds, value).
        limit: a value that is drawn as a line of its own; 0 for none.
        words: makes text of a value.
        span: seconds along the axis.
    """
    width, left, bottom = 580.0, 66.0, 20.0
    top = max([value for _, value in points] + [limit, 1e-9]) * 1.06
    rise = height - bottom - 6

    def at(second: float, value: float) -> str:
        return (
            f"{left + (width - left) * min(1.0, second / span if span else 0):.1f},{6 + rise * (1 - value / top):.1f}"
        )

    parts = [
        f'<svg class="plot" viewBox="0 0 {width:.0f} {height}" role="img" aria-label="{escape(label, quote=True)}">'
    ]
    for share in (0.0, 0.5, 1.0):
        value = top / 1.06 * share
        level = 6 + rise * (1 - value / top)
        parts.append(f'<line class="grid" x1="{left}" x2="{width}" y1="{level:.1f}" y2="{level:.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{level + 4:.1f}" text-anchor="end">{escape(words(value))}</text>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
        place = left + (width - left) * share
        text = escape(seconds_in_words(span * share))
        parts.append(f'<text x="{place:.1f}" y="{height - 4}" text-anchor="{anchor}">{text}</text>')
    path = " ".join(at(second, value) for second, value in points)
    if points:
        first, last = points[0][0], points[-1][0]
        parts.append(f'<polygon class="area" points="{at(first, 0)} {path} {at(last, 0)}"/>')
        parts.append(f'<polyline class="path" points="{path}"/>')
    if limit:
        level = 6 + rise * (1 - limit / top)
        parts.append(f'<line class="limit" x1="{left}" x2="{width}" y1="{level:.1f}" y2="{level:.1f}"/>')
    return "".join(parts) + "</svg>"


class Figure:
    """A drawing that a notebook shows, and that can be saved as a page of its own.

    Args:
        html: the whole page.
        height: pixels that it takes in a notebook.
    """

    def __init__(self, html: str, height: int = 480) -> None:
        self.html = html
        self._height = height

    def save(self, filename: str) -> str:
        """Write the page to a file; returns the file's name."""
        with open_named(filename, private=False) as file:
            file.write(self.html.encode())
        return filename

    def _repr_html_(self) -> str:
        return framed(self.html, self._height)

    def __repr__(self) -> str:
        return f"<Figure: {len(self.html)} characters of HTML; see .save(filename)>"


def stream_figure(runs: Sequence[Run], names: Mapping[str, Any] | None = None) -> Figure:
    """The drawing of a stream of tasks alone."""
    start, stop = span_of(runs)
    content = stream_chart(runs, names or {}, start, stop)
    threads = len({(run.worker, run.thread) for run in runs})
    note = f"{len(runs)} tasks in {threads} threads, {seconds_in_words(stop - start)}"
    body = section("stream", "Task stream", content, note)
    return Figure(page("Task stream", body), 260 + min(520, 22 * threads))
