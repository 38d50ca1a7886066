"""Pieces of HTML for notebooks: cards, tables, folds and bars that look alike in light and dark.

The pieces are self-contained: styles are inline, since notebooks strip style sheets from outputs that they do not
trust, and colours derive from the page's own text colour. All text is escaped here, unless it is `Html` already. Knows
nothing of what is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["Html", "badge", "bar", "card", "chip", "code", "facts", "fold", "join", "link", "short", "table"]

#: Colours that stand out from a light and from a dark background.
GREEN, BLUE, ORANGE, RED, GREY = "#2f9e5b", "#3d7fd9", "#d98324", "#dc4545", "#8a8f98"
#: Colour by the word for a status.
STATUS_COLOURS = {
    "running": GREEN,
    "finished": GREEN,
    "memory": GREEN,
    "processing": BLUE,
    "starting": BLUE,
    "connecting": BLUE,
    "pending": BLUE,
    "waiting": BLUE,
    "queued": BLUE,
    "paused": ORANGE,
    "no-worker": ORANGE,
    "closing": ORANGE,
    "closing_gracefully": ORANGE,
    "cancelled": ORANGE,
    "lost": RED,
    "error": RED,
    "erred": RED,
    "failed": RED,
}
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
_LINE = "rgba(128,128,128,.28)"
_FAINT = "rgba(128,128,128,.09)"
_CELL = "padding:3px 14px 3px 0;text-align:left;vertical-align:top;background:none;border:0"
_TD = f'<td style="{_CELL}">'


#: The replacements of `html.escape`; that module brings a table of all entities, which no server needs.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


def escape(text: str) -> str:
    """Markup that shows a text.

    >>> escape("<a & 'b'>")
    '&lt;a &amp; &#x27;b&#x27;&gt;'
    """
    return text.translate(_ESCAPES)


class Html(str):
    """Markup that is not to be escaped again."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def short(value: object, length: int = 200) -> str:
    """A text of bounded length.

    >>> short("abcdef", 4)
    'abc…'
    """
    text = str(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def _safe(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value))


def join(parts: Iterable[Any], between: str = "") -> Html:
    """Pieces one after the other; a piece that is no `Html` is escaped.

    >>> join(["a<b", Html("<b>c</b>")])
    'a&lt;b<b>c</b>'
    """
    return Html(between.join(_safe(part) for part in parts))


def code(value: object, wrap: bool = True) -> Html:
    """A text in the font of code, for addresses, keys and types; without `wrap`, on one line whatever its length."""
    style = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.92em;background:none;color:inherit;padding:0"
    return Html(
        f'<code style="{style};{"overflow-wrap:anywhere" if wrap else "white-space:nowrap"}">{_safe(value)}</code>'
    )


def link(address: str, text: str | None = None) -> Html:
    """A link that opens in another tab; an address that does not begin with http or a slash is shown as text only."""
    if not address.startswith(("http://", "https://", "/")):
        return code(text or address)
    return Html(
        f'<a href="{escape(address)}" target="_blank" rel="noopener" style="color:{BLUE}">{_safe(text or address)}</a>'
    )


def badge(status: object) -> Html:
    """A coloured dot and the word for a status."""
    colour = STATUS_COLOURS.get(str(status), GREY)
    dot = f'<span style="color:{colour};font-size:1.1em;line-height:1">&#9679;</span>'
    return Html(f'<span style="white-space:nowrap">{dot}&nbsp;{_safe(status)}</span>')


def chip(text: object, colour: str = GREY) -> Html:
    """A short word in a frame."""
    return Html(
        f'<span style="border:1px solid {colour};border-radius:9px;padding:0 7px;font-size:.85em;white-space:nowrap">'
        f"{_safe(text)}</span>"
    )


def facts(values: Mapping[str, Any]) -> Html:
    """Names and values, as many on a line as there is room for; values that are `None` are left out."""
    cells = [
        f'<div style="min-width:0"><div style="opacity:.62;font-size:.82em">{_safe(name)}</div>'
        f'<div style="overflow-wrap:anywhere">{_safe(value)}</div></div>'
        for name, value in values.items()
        if value is not None
    ]
    return Html(f'<div style="display:flex;flex-wrap:wrap;gap:6px 28px">{"".join(cells)}</div>')


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], more: int = 0) -> Html:
    """A table.

    Args:
        heads: the heads of the columns.
        rows: a value for each column.
        more: number of rows that were left out, which is told below the others.
    """
    head = "".join(
        f'<th style="{_CELL};border-bottom:1px solid {_LINE};font-weight:600">{_safe(name)}</th>' for name in heads
    )
    lines = [
        f'<tr style="background:none">{"".join(f"{_TD}{_safe(value)}</td>" for value in row)}</tr>' for row in rows
    ]
    if more > 0:
        lines.append(f'<tr><td colspan="{len(heads)}" style="{_CELL};opacity:.62">… and {more:,} more</td></tr>')
    return Html(
        f'<div style="overflow-x:auto"><table style="border-collapse:collapse;font-size:.95em;margin:2px 0;'
        f'border:0;color:inherit"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def fold(summary: object, body: object, opened: bool = False, above: int = 8) -> Html:
    """A summary that unfolds its body when it is clicked; `above`: pixels of space before it."""
    return Html(
        f'<details style="margin-top:{above}px"{" open" if opened else ""}>'
        f'<summary style="cursor:pointer;opacity:.85">{_safe(summary)}</summary>'
        f'<div style="padding:6px 0 2px 14px">{_safe(body)}</div></details>'
    )


def card(title: object, body: object = "", *, subtitle: object = "", status: object = None, colour: str = BLUE) -> Html:
    """A frame with a title and a coloured edge.

    Args:
        subtitle: beside the title, smaller.
        status: at the right, as a `badge`.
        colour: the edge's.
    """
    said = f'<span style="margin-left:auto">{badge(status)}</span>' if status is not None else ""
    beside = f'<span style="opacity:.62;font-size:.88em;overflow-wrap:anywhere">{_safe(subtitle)}</span>'
    content = f'<div style="margin-top:8px">{_safe(body)}</div>' if body else ""
    return Html(
        f'<div style="{_FONT};font-size:13px;line-height:1.45;color:inherit;max-width:760px;margin:4px 0;'
        f"padding:9px 14px 10px;border:1px solid {_LINE};border-left:4px solid {colour};border-radius:5px;"
        f'background:{_FAINT}"><div style="display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline">'
        f'<b style="font-size:1.08em">{_safe(title)}</b>{beside if subtitle else ""}{said}</div>{content}</div>'
    )


def bar(parts: Iterable[tuple[float, str]], height: int = 10) -> Html:
    """A bar of coloured parts, each a share of the whole between 0 and 1."""
    pieces = "".join(
        f'<div style="width:{100 * min(1.0, max(0.0, share)):.2f}%;background:{colour}"></div>'
        for share, colour in parts
        if share > 0
    )
    return Html(
        f'<div style="display:flex;height:{height}px;border-radius:{height // 2}px;overflow:hidden;'
        f'background:rgba(128,128,128,.22)">{pieces}</div>'
    )


def line(title: object, values: Mapping[str, Any], status: object = None) -> Html:
    """A line about something small: its kind, its status, and names with values; values that are None are left out."""
    said = [badge(status)] if status is not None else []
    said += [
        join([Html(f'<span style="opacity:.62">{_safe(name)}</span> '), value])
        for name, value in values.items()
        if value is not None
    ]
    pieces = "".join(f'<span style="overflow-wrap:anywhere">{piece}</span>' for piece in said)
    return Html(
        f'<div style="{_FONT};font-size:13px;line-height:1.5;color:inherit;display:flex;flex-wrap:wrap;gap:0 14px">'
        f"<b>{_safe(title)}</b>{pieces}</div>"
    )


def meter(used: float, limit: float, text: object) -> Html:
    """A text over a thin bar that shows the used share of a limit, and warns from 70 % on."""
    if not limit:
        return join([text])
    share = used / limit
    colour = RED if share > 0.9 else ORANGE if share > 0.7 else BLUE
    shown = f'{_safe(text)}<div style="height:2px"></div>{bar([(share, colour)], 4)}'
    return Html(f'<div style="min-width:90px;white-space:nowrap">{shown}</div>')
