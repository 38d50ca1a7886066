"""The frame of a page: style, script, and the ways in which values get into it, escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from headrace.common.display.units import bytes_in_words

_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="headrace">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
{body}
</main>
<div id="tip" role="status" hidden></div>
<script>
{script}
</script>
</body>
</html>
"""


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").strip()


def page(title: str, body: str) -> str:
    """A whole page around its body."""
    return _FRAME.format(title=escape(title), style=_asset("page.css"), script=_asset("page.js"), body=body)


def framed(html: str, height: int) -> str:
    """A whole page as part of another one, a notebook's: apart from it, so that neither changes the other.

    Args:
        height: of the frame, in pixels.
    """
    return (
        f'<iframe srcdoc="{escape(html, quote=True)}" width="100%" height="{height}" '
        'style="border:0;border-radius:8px" title="headrace"></iframe>'
    )


def section(name: str, title: str, content: str, note: str = "") -> str:
    """A part of a page, with its heading; `content` is HTML, the texts are not."""
    said = f"<p>{escape(note)}</p>" if note else ""
    return f'<section id="{escape(name, quote=True)}"><h2>{escape(title)}</h2>{said}\n{content}\n</section>'


def data_block(name: str, data: object) -> str:
    """Data for the script, that cannot end its element whatever it holds."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, default=str, allow_nan=False)
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="{name}">{text}</script>'


def chart(kind: str, name: str, data: object, label: str, hint: str) -> str:
    """A drawing that the script makes of data: "stream" or "flame"."""
    return (
        f'<div class="chart" data-kind="{kind}" data-source="{name}">'
        f'<canvas tabindex="0" role="img" aria-label="{escape(label, quote=True)}"></canvas>'
        f'<button type="button" hidden>Show all</button></div><p class="hint">{escape(hint)}</p>'
        f"{data_block(name, data)}<noscript>This drawing needs JavaScript.</noscript>"
    )


class Raw(str):
    """HTML that is known to be safe."""

    __slots__ = ()


def cell(value: object, kind: str = "td", style: str = "") -> str:
    """A cell of a table."""
    content = value if isinstance(value, Raw) else escape(str(value))
    return f"<{kind}{style}>{content}</{kind}>"


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]], left: int = 1) -> str:
    """A table.

    Args:
        left: how many columns hold text, which stands at the left.
    """

    def line(values: Iterable[Any], kind: str) -> str:
        return "".join(
            cell(value, kind, ' class="left"' if position < left else "") for position, value in enumerate(values)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{line(columns, "th")}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def meter(share: float) -> Raw:
    """A bar for a share from 0 to 1."""
    percent = 100 * min(1.0, max(0.0, share))
    return Raw(
        f'<span class="track" title="{percent:.1f} %"><span class="meter" style="width:{percent:.1f}%"></span></span>'
    )


def swatch(color: str, name: str) -> Raw:
    """A name with the color that it has in a drawing."""
    return Raw(f'<span class="swatch" style="background:{escape(color, quote=True)}"></span>{escape(name)}')


def pairs(items: Iterable[tuple[str, Any]]) -> str:
    """Names and values, in columns."""
    lines = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in items)
    return f'<dl class="pairs">{lines}</dl>'


def tiles(items: Iterable[tuple[str, str, str, bool]]) -> str:
    """The figures at the head of a page: name, value, a note, and whether it is bad news."""
    return '<dl class="tiles">{}</dl>'.format(
        "".join(
            f'<div class="tile{" bad" if bad else ""}"><dt>{escape(name)}</dt>'
            f"<dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
            for name, value, more, bad in items
        )
    )


def seconds_in_words(seconds: float) -> str:
    """A duration, as people say it.

    >>> [seconds_in_words(value) for value in (0, 2.5e-5, 0.0123, 1.5, 75, 4000)]
    ['0 s', '25 µs', '12.3 ms', '1.5 s', '1 min 15 s', '1 h 7 min']
    """
    if seconds <= 0:
        return "0 s"
    for factor, unit in ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s")):
        if seconds < factor * (60 if unit == "s" else 999.5):
            return f"{_short(seconds / factor)} {unit}"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"


def number_in_words(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}".replace(",", "\u202f")


__all__ = [
    "Raw",
    "bytes_in_words",
    "chart",
    "data_block",
    "framed",
    "meter",
    "number_in_words",
    "page",
    "pairs",
    "seconds_in_words",
    "section",
    "swatch",
    "table",
    "tiles",
]
