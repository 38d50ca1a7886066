"""Locks that are taken several at a time. Pure.

Theory of operation. A request stands in the lines of all its names from the beginning; the first of a line has that
name. Once a request is first in as many lines as it needs, it keeps these and leaves the others. Requests enter all
their lines in one step, so that the oldest that waits is nowhere behind a younger one, and no two wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable


class Request:
    """One request for several names.

    Attributes:
        names: the names in whose lines it stands.
        needed: how many it needs.
        granted: whether it has them.
    """

    __slots__ = ("granted", "names", "needed")

    def __init__(self, names: list[str], needed: int) -> None:
        self.names = names
        self.needed = needed
        self.granted = False


class MultiLocks:
    """All lines by name, and all requests by identifier."""

    def __init__(self) -> None:
        self.lines: dict[str, dict[str, None]] = {}
        self.requests: dict[str, Request] = {}

    def request(self, identifier: str, names: Iterable[str], needed: int | None = None) -> bool:
        """Ask for locks: whether they were had at once. Else the request stands in line until `withdraw`.

        Args:
            needed: how many of the names; all by default.

        Raises:
            ValueError: more are needed than named, or the identifier has locks or waits for some.
        """
        distinct = list(dict.fromkeys(names))
        count = needed if needed else len(distinct)
        if not 0 <= count <= len(distinct):
            raise ValueError(f"cannot lock {count} of {len(distinct)} names")
        if identifier in self.requests:
            raise ValueError("this MultiLock has been acquired already, or is being acquired")
        self.requests[identifier] = Request(distinct, count)
        for name in distinct:
            self.lines.setdefault(name, {})[identifier] = None
        return bool(self._settle([identifier]))

    def withdraw(self, identifier: str) -> list[str]:
        """Give the locks up, or leave the lines; returns the requests that are granted thereby."""
        request = self.requests.pop(identifier, None)
        return [] if request is None else self._settle(self._leave(identifier, request.names))

    def holds(self, identifier: str) -> bool:
        """True for a request that has been granted as many names as it needs."""
        request = self.requests.get(identifier)
        return request is not None and request.granted

    def _leave(self, identifier: str, names: Iterable[str]) -> list[str]:
        """Leave lines; returns the requests that are first there now."""
        firsts = []
        for name in names:
            line = self.lines[name]
            was_first = next(iter(line)) == identifier
            del line[identifier]
            if not line:
                del self.lines[name]
            elif was_first:
                firsts.append(next(iter(line)))
        return firsts

    def _settle(self, candidates: list[str]) -> list[str]:
        """Grant the candidates that have as many names as they need, and the requests that come first thereby."""
        granted = []
        while candidates:
            identifier = candidates.pop(0)
            request = self.requests[identifier]
            if request.granted:
                continue
            first_in = [name for name in request.names if next(iter(self.lines[name])) == identifier]
            if len(first_in) < request.needed:
                continue
            request.granted = True
            granted.append(identifier)
            kept = first_in[: request.needed]
            left = [name for name in request.names if name not in kept]
            request.names = kept
            candidates += self._leave(identifier, left)
        return granted
