"""HTML of elements and texts. All text is escaped here, unless it is `Html` already, so that none can be forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from headrace.common.display.html import Html, escape, join
from headrace.common.display.units import ago

__all__ = ["Html", "code", "facts", "fold", "heard", "join", "meter", "moment", "state", "table", "tag", "tiles"]

#: Elements that have no content.
_EMPTY = frozenset({"meta", "link", "br"})
#: How states of tasks and workers look: a class of the style sheet by the word.
_LOOKS = {
    "running": "good",
    "memory": "good",
    "processing": "busy",
    "waiting": "busy",
    "queued": "busy",
    "paused": "warn",
    "no-worker": "warn",
    "closing": "warn",
    "closing_gracefully": "warn",
    "erred": "bad",
    "ERROR": "bad",
    "CRITICAL": "bad",
    "WARNING": "warn",
}


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """An element.

    Args:
        name: of the element.
        content: texts and elements; None is left out.
        attributes: `class_` means class, other underscores are hyphens; None and False are left out, True has no value.

    >>> tag("a", "1 < 2", href="x?a=1&b=2")
    '<a href="x?a=1&amp;b=2">1 &lt; 2</a>'
    """
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _EMPTY:
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{join(part for part in content if part is not None)}</{name}>")


def code(text: object) -> Html:
    """A text in the font of code."""
    return tag("code", text)


def state(word: str) -> Html:
    """The word for a state, with its colour beside it."""
    return tag("span", word.replace("_", " "), class_=f"state {_LOOKS.get(word, 'plain')}")


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], label: str, numbers: str = "") -> Html:
    """A table that scrolls by itself where it is too wide.

    Args:
        heads: of the columns.
        rows: a cell for each column.
        label: what the table is about, for those who hear it.
        numbers: a letter for each column: "n" for numbers, which stand at the right, anything else for text.
    """
    looks = [("n" if letter == "n" else None) for letter in numbers.ljust(len(heads))]
    head = tag("tr", *[tag("th", text, scope="col", class_=look) for text, look in zip(heads, looks, strict=True)])
    body = [tag("tr", *[tag("td", cell, class_=look) for cell, look in zip(row, looks, strict=True)]) for row in rows]
    inner = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", inner, class_="scroll", role="region", aria_label=label, tabindex="0")


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values; a value that is None is left out with its name."""
    return tag(
        "dl",
        *[tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value is not None],
        class_="facts",
    )


def tiles(entries: Iterable[tuple[str, str, str]]) -> Html:
    """Large numbers: (what, number, a class or "")."""
    return tag(
        "dl",
        *[
            tag("div", tag("dt", what), tag("dd", number), class_=f"tile {look}".strip())
            for what, number, look in entries
        ],
        class_="tiles",
    )


def meter(used: float, limit: float, text: str) -> Html:
    """A text over a bar that shows the used share of a limit."""
    if not limit:
        return tag("span", text)
    share = min(1.0, max(0.0, used / limit))
    look = "bad" if share > 0.9 else "warn" if share > 0.7 else "good"
    bar = tag("span", tag("span", style=f"width:{100 * share:.1f}%", class_=look), class_="track", aria_hidden="true")
    return tag("span", text, bar, class_="meter")


def fold(summary: object, *content: object, opened: bool = False) -> Html:
    """A line that unfolds more."""
    return tag("details", tag("summary", summary), *content, open=opened)


def moment(seconds: float) -> Html:
    """A time of day, from seconds since the epoch."""
    try:
        when = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return tag("span", "?")
    return tag("time", f"{when:%Y-%m-%d %H:%M:%S}", datetime=when.isoformat(timespec="seconds"))


def heard(seconds: float, now: float) -> Html:
    """How long ago something was, with the time of day for those who point at it."""
    return tag(
        "span", ago(max(0.0, now - seconds)), title=f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    )
