"""Progress as HTML: one bar for all, one a group, and the failures. Pure: it is given a snapshot."""

from __future__ import annotations

from headrace.common.display.html import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Html,
    bar,
    card,
    code,
    fold,
    join,
    short,
)

from .bar_text import format_seconds
from .feed import Group, Snapshot

#: Groups shown one by one; the rest can be unfolded.
SHOWN = 12
_LIGHT_BLUE = "rgba(61,127,217,.38)"


def render_progress(snapshot: Snapshot, *, multi: bool = True, note: str = "") -> Html:
    """A card that shows how far all is.

    Args:
        multi: a bar for each group as well.
        note: said below, smaller.
    """
    parts: list[Html] = [_total(snapshot)]
    if multi and snapshot.groups:
        rows = [_group(group, snapshot) for group in snapshot.groups]
        parts.append(_grid(rows[:SHOWN]))
        if rows[SHOWN:]:
            parts.append(fold(f"{len(rows) - SHOWN:,} more groups", _grid(rows[SHOWN:])))
    parts += _errors(snapshot)
    if snapshot.problem:
        parts.append(_text(f"stopped: {snapshot.problem}", RED))
    if note:
        parts.append(Html(f'<div style="opacity:.62;font-size:.85em;margin-top:8px">{join([note])}</div>'))
    status, colour = _state(snapshot)
    return card("Progress", join(parts), status=status, colour=colour, subtitle=_times(snapshot))


def _state(snapshot: Snapshot) -> tuple[str, str]:
    if snapshot.problem:
        return "lost", RED
    if snapshot.erred:
        return ("error" if snapshot.finished else "running"), RED
    if snapshot.lost:
        return ("cancelled" if snapshot.finished else "running"), ORANGE
    return ("finished", GREEN) if snapshot.finished else ("running", BLUE)


def _times(snapshot: Snapshot) -> str:
    took = format_seconds(snapshot.elapsed)
    rate = f" · {snapshot.rate:,.0f} tasks/s" if snapshot.rate >= 1 else ""
    if snapshot.finished:
        return f"done in {took}{rate}"
    left = snapshot.remaining
    return f"{took}{rate}" + (f" · {format_seconds(left)} left" if left is not None else "")


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0


def _total(snapshot: Snapshot) -> Html:
    total = snapshot.total
    shares = [
        (_share(snapshot.done, total) if total else snapshot.fraction, GREEN if snapshot.finished else BLUE),
        (_share(snapshot.erred, total), RED),
        (_share(snapshot.lost, total), ORANGE),
    ]
    said = [Html(f"<b>{snapshot.ended:,}</b> / {total:,} tasks")]
    if snapshot.running is not None and not snapshot.finished:
        said.append(Html(f"{snapshot.running:,} running"))
    said += _wrong(snapshot.erred, snapshot.lost)
    percent = Html(f'<span style="margin-left:auto">{int(snapshot.fraction * 100)}%</span>')
    return Html(
        f'<div style="display:flex;flex-wrap:wrap;gap:2px 12px;margin-bottom:4px">'
        f"{join([_span(piece) for piece in said])}{percent}</div>{bar(shares, 12)}"
    )


def _span(piece: Html) -> Html:
    return Html(f"<span>{piece}</span>")


def _wrong(erred: int, lost: int) -> list[Html]:
    said = []
    if erred:
        said.append(Html(f'<b style="color:{RED}">{erred:,} erred</b>'))
    if lost:
        said.append(Html(f'<b style="color:{ORANGE}">{lost:,} lost</b>'))
    return said


def _group(group: Group, snapshot: Snapshot) -> Html:
    shares = [
        (_share(group.done, group.total), GREEN if group.finished else BLUE),
        (_share(group.erred, group.total), RED),
        (_share(group.lost, group.total), ORANGE),
        (_share(group.processing, group.total), _LIGHT_BLUE),
    ]
    said = [Html(f"{group.ended:,} / {group.total:,}"), *_wrong(group.erred, group.lost)]
    name = f'<div style="overflow:hidden;text-overflow:ellipsis;white-space:nowrap" title="{join([group.name])}">'
    counts = join([_span(piece) for piece in said], " · ")
    return Html(
        f"{name}{join([short(group.name, 80)])}</div>"
        f'<div style="align-self:center">{bar(shares, 8)}</div>'
        f'<div style="text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums">{counts}</div>'
    )


def _grid(rows: list[Html]) -> Html:
    columns = "fit-content(38%) minmax(80px,1fr) auto"
    style = f"display:grid;grid-template-columns:{columns};gap:4px 12px;margin-top:10px"
    return Html(f'<div style="{style}">{join(rows)}</div>')


def _errors(snapshot: Snapshot) -> list[Html]:
    return [
        Html(
            f'<div style="margin-top:8px;border-left:3px solid {RED};padding-left:10px">'
            f'<div style="opacity:.75;font-size:.88em">{code(short(key, 120))}</div>{_text(text or "erred", RED)}</div>'
        )
        for told in snapshot.errors.values()
        for key, text in told
    ]


def _text(text: str, colour: str = GREY) -> Html:
    return Html(f'<div style="color:{colour};white-space:pre-wrap;overflow-wrap:anywhere">{join([text])}</div>')
