"""Draws the states of tasks from the tables of transitions: `python docs/state_diagrams.py` writes the files that the
site shows, `--check` (as CI runs it) fails if they are not what the tables say.

Only places are chosen here, by hand, for each state; a state without a place, or a place without a state, is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent / "src"))

Pair = tuple[str, str]
Place = tuple[float, float]

#: Pixels between neighbouring places, size of a box, and room around all.
STEP_X, STEP_Y, WIDTH, HEIGHT, MARGIN = 182, 120, 130, 44, 24
#: Kinds of arrows and the size of their heads; later ones lie above earlier ones.
ARROWS = {"back": 7, "other": 8, "way": 12}

STYLE = """
svg { background: #ffffff; border-radius: 12px; }
text { font: 600 17px system-ui, sans-serif; fill: #17303a; text-anchor: middle; dominant-baseline: central; }
rect { fill: #e6f1f5; stroke: #0f6d8c; stroke-width: 1.4; }
rect.rest { fill: #dff3e4; stroke: #2c7a47; }
rect.trouble { fill: #fbe7e3; stroke: #b4442c; }
rect.end { fill: #eceff0; stroke: #6b7b82; stroke-dasharray: 4 3; }
path { fill: none; stroke: #8fa3ab; stroke-width: 1.3; }
path.way { stroke: #0f6d8c; stroke-width: 2.4; }
path.back { stroke: #aebdc4; stroke-dasharray: 5 4; }
marker path { fill: #8fa3ab; stroke: none; }
marker#way path { fill: #0f6d8c; }
marker#back path { fill: #aebdc4; }
@media (prefers-color-scheme: dark) {
  svg { background: #17191b; }
  text { fill: #e4eef2; }
  rect { fill: #16323d; stroke: #6cc5e0; }
  rect.rest { fill: #173626; stroke: #7cc996; }
  rect.trouble { fill: #43211a; stroke: #ee8f78; }
  rect.end { fill: #252d30; stroke: #93a4ab; }
  path { stroke: #6f828a; }
  path.way { stroke: #6cc5e0; }
  path.back { stroke: #566a73; }
  marker path { fill: #6f828a; }
  marker#way path { fill: #6cc5e0; }
  marker#back path { fill: #566a73; }
}
""".strip()


@dataclass(frozen=True)
class Diagram:
    """One table, and how it is drawn.

    Attributes:
        name: of the files.
        title: for people who cannot see the drawing.
        table: function by (start, finish).
        places: column and row of each state.
        way: pairs that a task takes when nothing goes wrong; drawn stronger.
        kinds: class of the states that are not just stations: "rest", "trouble", "end".
    """

    name: str
    title: str
    table: Mapping[Pair, Callable[..., Any]]
    places: Mapping[str, Place]
    way: Iterable[Pair]
    kinds: Mapping[str, str]

    def check(self) -> None:
        """Raises ValueError if the table and the places do not have the same states."""
        states = {state for pair in self.table for state in pair}
        for state in sorted(states - set(self.places)):
            raise ValueError(f"{self.name}: the table has a state {state!r}; give it a place in {Path(__file__).name}")
        for state in sorted(set(self.places) - states):
            raise ValueError(f"{self.name}: no transition of the table has the state {state!r}, which has a place")
        for pair in self.way:
            if pair not in self.table:
                raise ValueError(f"{self.name}: {pair} is drawn as the way of a task, and is not in the table")


def diagrams() -> list[Diagram]:
    """Both tables, with the places of their states."""
    from headrace.scheduler.state.transitions.table import TABLE as SCHEDULER
    from headrace.worker.state.transition_table import TABLE as WORKER

    return [
        Diagram(
            "scheduler-states",
            "States of a task on the scheduler",
            SCHEDULER,
            {
                "released": (0, 1),
                "waiting": (1, 1),
                "queued": (2, 0),
                "no-worker": (2, 2),
                "processing": (2.95, 1),
                "memory": (4, 0.2),
                "erred": (4, 1.8),
                "forgotten": (4.75, 1),
            },
            [
                ("released", "waiting"),
                ("waiting", "processing"),
                ("processing", "memory"),
                ("memory", "forgotten"),
            ],
            {"memory": "rest", "erred": "trouble", "no-worker": "trouble", "forgotten": "end"},
        ),
        Diagram(
            "worker-states",
            "States of a task on a worker",
            WORKER,
            {
                "released": (0, 2),
                "waiting": (1, 0.7),
                "constrained": (2, 0),
                "ready": (2, 1.1),
                "executing": (3.1, 0.6),
                "long-running": (4.1, -0.1),
                "rescheduled": (4.1, 1.1),
                "fetch": (1.1, 3.2),
                "flight": (2.2, 4),
                "missing": (1, 4.5),
                "cancelled": (3.1, 2.1),
                "resumed": (3.1, 3.0),
                "memory": (4.6, 2.1),
                "error": (4.6, 3.4),
                "forgotten": (-0.1, 3.4),
            },
            [
                ("released", "waiting"),
                ("waiting", "ready"),
                ("ready", "executing"),
                ("executing", "memory"),
                ("released", "fetch"),
                ("fetch", "flight"),
                ("flight", "memory"),
            ],
            {"memory": "rest", "error": "trouble", "missing": "trouble", "cancelled": "trouble", "forgotten": "end"},
        ),
    ]


def drawing(diagram: Diagram) -> str:
    """The table as SVG."""
    diagram.check()
    columns = [x for x, _ in diagram.places.values()]
    rows = [y for _, y in diagram.places.values()]
    left, top = min(columns), min(rows)
    width = (max(columns) - left) * STEP_X + WIDTH + 2 * MARGIN
    height = (max(rows) - top) * STEP_Y + HEIGHT + 2 * MARGIN

    def centre(state: str) -> Place:
        x, y = diagram.places[state]
        return MARGIN + WIDTH / 2 + (x - left) * STEP_X, MARGIN + HEIGHT / 2 + (y - top) * STEP_Y

    way = set(diagram.way)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"<title>{diagram.title}</title>",
        f"<style>{STYLE}</style>",
        f"<defs>{''.join(_arrow(kind, size) for kind, size in ARROWS.items())}</defs>",
    ]

    def kind_of(pair: Pair) -> str:
        return "way" if pair in way else "back" if pair[1] in ("released", "forgotten") else "other"

    order = list(ARROWS)
    moves = [pair for pair in diagram.table if pair[0] != "forgotten"]  # a forgotten task stays so
    for pair in sorted(moves, key=lambda pair: (order.index(kind_of(pair)), pair)):
        start, finish = pair
        kind = kind_of(pair)
        lines.append(f'<path class="{kind}" marker-end="url(#{kind})" d="{_curve(centre(start), centre(finish))}"/>')
    for state in diagram.places:
        x, y = centre(state)
        kind = diagram.kinds.get(state, "station")
        lines.append(
            f'<rect class="{kind}" x="{x - WIDTH / 2:.1f}" y="{y - HEIGHT / 2:.1f}" width="{WIDTH}" height="{HEIGHT}" '
            f'rx="9"/><text x="{x:.1f}" y="{y:.1f}">{state}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _arrow(kind: str, size: int) -> str:
    return (
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="{size}" markerHeight="{size}" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z"/></marker>'
    )


def _curve(start: Place, finish: Place) -> str:
    """From the edge of one box to the edge of another, bowed to the right, so that two directions lie apart."""
    (x0, y0), (x1, y1) = start, finish
    if start == finish:
        low, high = y0 + HEIGHT / 2, y0 + HEIGHT / 2 + 42
        return f"M{x0 - 20:.1f} {low:.1f}C{x0 - 34:.1f} {high:.1f} {x0 + 34:.1f} {high:.1f} {x0 + 20:.1f} {low:.1f}"
    length = hypot(x1 - x0, y1 - y0)
    bow = 10 + 0.09 * length
    control = (x0 + x1) / 2 - (y1 - y0) / length * bow, (y0 + y1) / 2 + (x1 - x0) / length * bow
    ax, ay = _edge(start, control)
    bx, by = _edge(finish, control)
    return f"M{ax:.1f} {ay:.1f}Q{control[0]:.1f} {control[1]:.1f} {bx:.1f} {by:.1f}"


def _edge(centre: Place, towards: Place) -> Place:
    """Where the line from a box's centre leaves the box."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    scale = min(WIDTH / 2 / abs(dx) if dx else 1e9, HEIGHT / 2 / abs(dy) if dy else 1e9)
    return centre[0] + dx * scale, centre[1] + dy * scale


def rows(diagram: Diagram) -> str:
    """The table as text: which states lead where, and the function that moves a task there."""
    lines = ["| from | to | function |", "|---|---|---|"]
    for (start, finish), function in diagram.table.items():
        lines.append(f"| {start} | {finish} | `{function.__name__}` |")
    return "\n".join([*lines, ""])


def files() -> dict[Path, str]:
    """All that this script writes, by path."""
    written = {}
    for diagram in diagrams():
        written[HERE / "_static" / f"{diagram.name}.svg"] = drawing(diagram)
        written[HERE / "_static" / f"{diagram.name}.md"] = rows(diagram)
    return written


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` say which are out of date."""
    stale = [path for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path} is not what the tables of transitions say: run python docs/state_diagrams.py")
        return len(stale)
    for path in stale:
        path.write_text(files()[path], encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
