"""Tables as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def asciitable(columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table as text.

    Args:
        columns: headings.
        rows: as many values each.
    """
    lines = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    bar = "+".join(["", *["-" * (width + 2) for width in widths], ""])
    texts = [
        "|".join(["", *[f" {cell:<{width}} " for cell, width in zip(line, widths, strict=True)], ""]) for line in lines
    ]
    return "\n".join([bar, texts[0], bar, *texts[1:], bar])
