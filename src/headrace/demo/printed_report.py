"""The demo's output: tables and small bars as text."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

_BARS = "▁▂▃▄▅▆▇█"


def styled(text: str, code: str) -> str:
    """The text with a terminal's style, if the output goes to a terminal."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def heading(text: str) -> str:
    return "\n" + styled(text, "1")


def sparkline(counts: Sequence[float]) -> str:
    """A text with a bar for each count, relative to the largest.

    >>> sparkline([0, 1, 4, 8])
    ' ▁▄█'
    """
    top = max(counts, default=0)
    if not top:
        return " " * len(counts)
    return "".join(_BARS[max(0, round(count / top * len(_BARS)) - 1)] if count else " " for count in counts)


def shortened(path: str, length: int) -> str:
    """The end of a path, whole folders only, of at most `length` characters.

    >>> shortened("/usr/lib/python3.13/lib2to3/tests/bom.py", 24)
    '…/lib2to3/tests/bom.py'
    """
    if len(path) <= length:
        return path
    tail = path[-(length - 1) :]
    return "…" + tail[max(0, tail.find("/")) :]


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A text with aligned columns; numbers stand at the right, with thousands separated.

    >>> print(table(["name", "count"], [["a", 1234], ["bcd", 5]]))
      name  count
      ────  ─────
      a     1,234
      bcd       5
    """
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in texts), 1) for i, name in enumerate(columns)]
    numeric = [all(isinstance(row[i], int | float) for row in rows) and bool(rows) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        placed = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return ("  " + "  ".join(placed)).rstrip()

    return "\n".join([line(columns), line(["─" * width for width in widths]), *(line(row) for row in texts)])


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
