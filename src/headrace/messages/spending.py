"""What is spent on activities: sums by (activity, unit), and names of activities as messages carry them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias

#: Sums by (activity, unit), such as ("disk-read", "bytes").
Spent: TypeAlias = dict[tuple[str, str], float]


def spend(spent: Spent | None, activity: str, seconds: float, nbytes: int | None = None) -> None:
    """Add to what was spent on an activity; with bytes, these and their occurrence are counted as well.

    Args:
        spent: None for nobody who asks.
    """
    if spent is None:
        return
    add_to(spent, activity, "seconds", seconds)
    if nbytes is not None:
        add_to(spent, activity, "count", 1)
        add_to(spent, activity, "bytes", nbytes)


def add_to(spent: Spent, activity: str, unit: str, value: float) -> None:
    """Add to one sum."""
    spent[activity, unit] = spent.get((activity, unit), 0) + value


def wire_name(name: Hashable) -> Any:
    """A name as messages can carry it: parts that are not plain become text; a tuple becomes a list."""
    if isinstance(name, tuple):
        return [wire_name(part) for part in name]
    return name if name is None or isinstance(name, (str, int, float)) else str(name)


def name_of(told: Any) -> Hashable:
    """The name that `wire_name` was given, with texts for what was not plain."""
    return tuple(map(name_of, told)) if isinstance(told, (list, tuple)) else told
