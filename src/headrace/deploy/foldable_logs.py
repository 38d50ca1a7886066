"""Logs for users: texts that notebooks show in folds."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any


class Log(str):
    """A text with the log lines of a server."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        lines = (f"<p>{escape(line)}</p>" for line in self.splitlines())
        return f'<pre style="color: #555;">{"".join(lines)}</pre>'


class Logs(dict[str, Log]):
    """The logs of several servers, by server."""

    def _repr_html_(self) -> str:
        parts = [
            f"<details><summary>{escape(str(name))}</summary>{log._repr_html_()}</details>"
            for name, log in sorted(self.items())
        ]
        return "\n".join(parts)


def as_log(lines: Iterable[Any]) -> Log:
    """A text of the lines in pairs of level, or time, and line, as they come."""
    return Log("\n".join(str(line[1]) for line in lines))
