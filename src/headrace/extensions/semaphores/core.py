"""Semaphores by name, each with the leases that are held and those that wait, first come first served. Pure."""

from __future__ import annotations

from collections.abc import Hashable

from headrace.exceptions import BadRequestError


class SemaphoreState:
    """One semaphore.

    Attributes:
        max_leases: how many may be held at a time.
        fleeting: whether it is forgotten when nobody holds it or waits for it (locks).
        leases: those that are held, oldest first.
        line: those that wait, oldest first.
        acquired, released: how many leases have been granted, and given up or ended, so far.
        usual_wait: seconds that requests waited for their leases, exponentially weighted to recent ones.
    """

    __slots__ = ("acquired", "fleeting", "leases", "line", "max_leases", "released", "usual_wait")

    def __init__(self, max_leases: int, fleeting: bool) -> None:
        self.max_leases = max_leases
        self.fleeting = fleeting
        self.leases: dict[str, None] = {}
        self.line: dict[str, None] = {}
        self.acquired = 0
        self.released = 0
        self.usual_wait = 0.0

    def grant(self, lease: str) -> None:
        """Have a lease held."""
        self.leases[lease] = None
        self.acquired += 1


class Semaphores:
    """All semaphores. Leases are identified by texts that are never used twice."""

    def __init__(self) -> None:
        self.by_name: dict[Hashable, SemaphoreState] = {}

    def create(self, name: Hashable, max_leases: int, fleeting: bool = False) -> None:
        """Make a semaphore, unless it is there.

        Raises:
            ValueError: it is there with another number of leases, or the number is not positive.
        """
        present = self.by_name.get(name)
        if present is None:
            if not isinstance(max_leases, int) or max_leases < 1:
                raise BadRequestError(f"a semaphore needs at least one lease, not {max_leases!r}")
            self.by_name[name] = SemaphoreState(max_leases, fleeting)
        elif present.max_leases != max_leases:
            raise BadRequestError(f"Inconsistent max leases: {max_leases}, expected: {present.max_leases}")

    def request(self, name: Hashable, lease: str) -> bool:
        """Ask for a lease: whether it was had at once. Else it stands in line until `withdraw`.

        Raises:
            RuntimeError: there is no such semaphore.
        """
        semaphore = self.by_name.get(name)
        if semaphore is None:
            raise RuntimeError(f"Semaphore or Lock `{name}` not known: it was closed, or never registered.")
        if len(semaphore.leases) < semaphore.max_leases:  # then nobody is in line
            semaphore.grant(lease)
            return True
        semaphore.line[lease] = None
        return False

    def withdraw(self, name: Hashable, lease: str) -> list[str]:
        """Give a lease up, or leave the line; returns the leases that are granted thereby."""
        semaphore = self.by_name.get(name)
        if semaphore is None:
            return []
        semaphore.line.pop(lease, None)
        if lease in semaphore.leases:
            del semaphore.leases[lease]
            semaphore.released += 1
        granted = []
        while semaphore.line and len(semaphore.leases) < semaphore.max_leases:
            following = next(iter(semaphore.line))
            del semaphore.line[following]
            semaphore.grant(following)
            granted.append(following)
        if semaphore.fleeting and not semaphore.leases:
            del self.by_name[name]
        return granted

    def holds(self, name: Hashable, lease: str) -> bool:
        """True for a lease that is held, not one that waits in line."""
        semaphore = self.by_name.get(name)
        return semaphore is not None and lease in semaphore.leases

    def note_wait(self, name: Hashable, seconds: float) -> None:
        """Learn how long a request waited for its lease: the average moves half way to it."""
        semaphore = self.by_name.get(name)
        if semaphore is not None:
            semaphore.usual_wait = 0.5 * (semaphore.usual_wait + seconds)

    def value(self, name: Hashable) -> int:
        """The number of leases that are held; 0 if there is no such semaphore."""
        semaphore = self.by_name.get(name)
        return len(semaphore.leases) if semaphore is not None else 0

    def close(self, name: Hashable) -> tuple[list[str], list[str]]:
        """Forget a semaphore; returns the leases that were held, and those that waited."""
        semaphore = self.by_name.pop(name, None)
        return ([], []) if semaphore is None else (list(semaphore.leases), list(semaphore.line))
