"""Computation: the record of what clients submitted while the cluster was busy, for those who look at it later."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

from headrace.common.display.html import Html, card, code, facts, fold, join
from headrace.common.source_code import SourceCode

from .tasks import STATES

if TYPE_CHECKING:
    from .groups import TaskGroup

#: Numbers of the computations that were made without an identifier. The core draws no random ones: a run is to be the
#: same each time.
_numbers = count(1)


class Computation:
    """Submissions of clients while the cluster was busy without a break.

    Attributes:
        id: unique among the computations of this scheduler.
        groups: the groups of its tasks.
        annotations: what its calls were annotated with, the latest of each name; what only tasks of theirs were
            annotated with is not among them.
        sources: frames of the user's code from which it was submitted, a tuple a submission; see `code`.
    """

    __slots__ = ("annotations", "groups", "id", "sources", "started")

    def __init__(self, identifier: str = "", now: float = 0.0) -> None:
        self.id = identifier or f"computation-{next(_numbers)}"
        self.started = now
        self.groups: set[TaskGroup] = set()
        self.sources: set[tuple[SourceCode, ...]] = set()
        self.annotations: dict[str, Any] = {}

    @property
    def code(self) -> list[tuple[SourceCode, ...]]:
        """Frames of the user's code from which it was submitted, outermost first; each submission once, sorted."""
        return sorted(self.sources)

    @property
    def start(self) -> float:
        """Time at which its first task began, in seconds since the epoch (or when it was submitted, before that)."""
        return min((group.start for group in self.groups if group.start), default=self.started)

    @property
    def stop(self) -> float:
        """Time at which its last task so far ended; -1 while none has."""
        return max((group.stop for group in self.groups if group.stop), default=-1)

    @property
    def states(self) -> dict[str, int]:
        totals = dict.fromkeys(STATES, 0)
        for group in self.groups:
            for state, number in group.states.items():
                totals[state] += number
        return totals

    def __iter__(self) -> Iterator[TaskGroup]:
        return iter(self.groups)

    def __repr__(self) -> str:
        return f"<Computation {self.id}: Tasks: {self._counts()}>"

    def _counts(self) -> str:
        return ", ".join(f"{state}: {number}" for state, number in self.states.items() if number)

    def _repr_html_(self) -> str:
        values = {
            "Groups": len(self.groups),
            "Tasks": self._counts() or "none",
            "Seconds": f"{self.stop - self.start:.3g}" if self.stop > 0 else "not done",
        }
        parts: list[Html] = [facts(values)]
        if self.groups:
            parts.append(fold("Groups", join([code(repr(group)) for group in self.groups], "<br>")))
        for frames in self.code:
            text = "\n\n".join(frame.code for frame in frames)
            parts.append(fold("Code", Html(f'<pre style="background:none;color:inherit">{join([text])}</pre>')))
        return card("Computation", join(parts), subtitle=self.id)
