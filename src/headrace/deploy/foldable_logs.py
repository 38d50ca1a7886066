"""Logs as what users look at: text that notebooks can fold."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any


class Log(str):
    """The lines of one server."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        lines = (f"<p>{escape(line)}</p>" for line in self.splitlines())
        return f'<pre style="color: #555;">{"".join(lines)}</pre>'


class Logs(dict[str, Log]):
    """{server: Log}"""

    def _repr_html_(self) -> str:
        parts = [
            f"<details><summary>{escape(str(name))}</summary>{log._repr_html_()}</details>"
            for name, log in sorted(self.items())
        ]
        return "\n".join(parts)


def as_log(lines: Iterable[Any]) -> Log:
    """One text of (level, line), or (time, line), the oldest first."""
    return Log("\n".join(str(line[1]) for line in lines))
