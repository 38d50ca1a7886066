"""The text of progress: a line for everything, and one a group. Pure: it is given a snapshot and the room there is."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.diagnostics.progress.feed import Group, Snapshot

_EIGHTHS = " ▏▎▍▌▋▊▉█"
#: The bar gets no shorter than this; numbers that do not fit beside it are left out.
SHORTEST_BAR = 4
_NAME_WIDTH = 24


def format_seconds(seconds: float) -> str:
    """A short duration.

    >>> format_seconds(1.234), format_seconds(75), format_seconds(7300)
    ('1.2s', '1m 15s', '2h 01m')
    """
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m"


def render_bar(fraction: float, width: int, unicode: bool = True) -> str:
    """A bar of `width` characters.

    >>> render_bar(0.5, 8, unicode=False)
    '####    '
    """
    if not unicode:
        return ("#" * int(fraction * width)).ljust(width)
    eighths = int(fraction * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[part] if full < width else "")).ljust(width)


def counts(ended: int, total: int, erred: int, lost: int, more: str = "") -> str:
    """The number of tasks that have ended, of all, and of those that went wrong.

    >>> counts(4, 1200, 1, 0)
    '4/1,200, 1 erred'
    """
    text = f"{ended:,}/{total:,}"
    if erred:
        text += f", {erred:,} erred"
    if lost:
        text += f", {lost:,} lost"
    return text + more


def times(snapshot: Snapshot) -> str:
    """The time passed, and the time left."""
    took = format_seconds(snapshot.elapsed)
    if snapshot.finished:
        return f"in {took}"
    left = snapshot.remaining
    return took if left is None else f"{took}, {format_seconds(left)} left"


def render_line(
    snapshot: Snapshot, width: int = 40, unicode: bool = True, label: str = "", columns: int | None = None
) -> str:
    """One line for all groups together.

    Args:
        width: of the bar, in characters.
        columns: that the line may take; the bar shrinks, and then the rate and the times are left out.

    >>> groups = (Group("inc", total=8, done=3, erred=1),)
    >>> render_line(Snapshot(groups, 8, running=2, elapsed=2.0), width=8, unicode=False)
    '[####    ]  50% | 4/8, 1 erred, 2 running | 2 tasks/s | 2.0s, 2.0s left'
    """
    running = "" if snapshot.running is None or snapshot.finished else f", {snapshot.running:,} running"
    # rounded down: 100% means that nothing is left
    parts = [
        f"{int(snapshot.fraction * 100):3d}%",
        counts(snapshot.ended, snapshot.total, snapshot.erred, snapshot.lost, running),
        f"{snapshot.rate:,.0f} tasks/s",
        times(snapshot),
    ]
    before = f"{label} [" if label else "["

    def room() -> int:
        return width if columns is None else columns - len(before) - len("] " + " | ".join(parts))

    while room() < SHORTEST_BAR and len(parts) > 2:
        del parts[2 if len(parts) == 4 else -1]
    bar = render_bar(snapshot.fraction, max(SHORTEST_BAR, min(width, room())), unicode)
    line = f"{before}{bar}] {' | '.join(parts)}"
    return line if columns is None else line[:columns]


def render_groups(groups: Sequence[Group], columns: int, width: int = 20, unicode: bool = True) -> list[str]:
    """A line for each group, with bars of one length; without bars if there is no room.

    >>> print(*render_groups([Group("inc", 4, 2, processing=1), Group("add", 4)], 60, 4, unicode=False), sep="\\n")
      inc                      [##  ] 2/4, 1 processing
      add                      [    ] 0/4
    """
    said = [
        counts(group.ended, group.total, group.erred, group.lost, _processing(group) if not group.finished else "")
        for group in groups
    ]
    room = columns - _NAME_WIDTH - 6 - max(map(len, said), default=0)
    lines = []
    for group, text in zip(groups, said, strict=True):
        name = group.name
        if len(name) > _NAME_WIDTH:
            name = name[: _NAME_WIDTH - 1] + ("…" if unicode else ".")
        bar = f"[{render_bar(group.ended / group.total, min(width, room), unicode)}] " if room >= SHORTEST_BAR else ""
        lines.append(f"  {name:<{_NAME_WIDTH}} {bar}{text}"[:columns])
    return lines


def _processing(group: Group) -> str:
    return f", {group.processing:,} processing" if group.processing else ""


def render_errors(snapshot: Snapshot) -> list[str]:
    """A line for each failure that is known."""
    return [
        f"  {key}: {text.splitlines()[0] if text else ''}" for told in snapshot.errors.values() for key, text in told
    ]


def choose_groups(groups: tuple[Group, ...], rows: int) -> list[Group]:
    """Choose groups to show in so many rows: none of a single one, and rather those that are not done."""
    if len(groups) < 2 or rows < 1:
        return []
    if len(groups) <= rows:
        return list(groups)
    first = [group for group in groups if not group.finished][:rows]
    chosen = {group.name for group in [*first, *[group for group in groups if group.finished][: rows - len(first)]]}
    return [group for group in groups if group.name in chosen]
