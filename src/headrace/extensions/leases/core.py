"""All leases: the holder of each, and its end if the holder does not come back. Pure: the time is an argument.

A lease of a holder that is connected has no end. When the holder's connection goes, the clock starts; it stops when the
holder is back. A lease whose holder is nobody's client has an end from the beginning, which `refresh` puts off.
"""

from __future__ import annotations

from collections.abc import Iterable


class Lease:
    """One lease.

    Attributes:
        holder: name of the client that answers for it; None when it is refreshed by hand.
        worker: address of the worker whose task took it, if any.
        end: time at which it ends; None while its holder is connected.
    """

    __slots__ = ("end", "holder", "worker")

    def __init__(self, holder: str | None, worker: str | None, end: float | None) -> None:
        self.holder = holder
        self.worker = worker
        self.end = end


class Leases:
    """All leases by their identifiers.

    Args:
        timeout: seconds from the loss of a holder to the end of his leases; may be infinite.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.leases: dict[str, Lease] = {}
        self._by_holder: dict[str, set[str]] = {}
        #: those with an end
        self._ending: dict[str, Lease] = {}

    @property
    def ending(self) -> bool:
        """True while any lease has an end."""
        return bool(self._ending)

    def grant(self, identifier: str, holder: str | None, worker: str | None, present: bool, now: float) -> None:
        """Record a new lease.

        Args:
            present: whether the holder is connected.
        """
        lease = self.leases[identifier] = Lease(holder, worker, None)
        if holder is not None:
            self._by_holder.setdefault(holder, set()).add(identifier)
        if holder is None or not present:
            self._end_later(identifier, lease, now)

    def drop(self, identifier: str) -> bool:
        """Forget a lease that is given up; False if there was none (any more)."""
        lease = self.leases.pop(identifier, None)
        if lease is None:
            return False
        self._ending.pop(identifier, None)
        if lease.holder is not None:
            theirs = self._by_holder[lease.holder]
            theirs.discard(identifier)
            if not theirs:
                del self._by_holder[lease.holder]
        return True

    def refresh(self, identifiers: Iterable[str], now: float) -> list[str]:
        """Put off the ends of leases; returns those that are not known (any more)."""
        unknown = []
        for identifier in identifiers:
            lease = self.leases.get(identifier)
            if lease is None:
                unknown.append(identifier)
            elif lease.end is not None:
                self._end_later(identifier, lease, now)
        return unknown

    def holder_gone(self, holder: str, now: float) -> None:
        """A holder's connection is gone: the clock starts, unless it runs."""
        for identifier in self._by_holder.get(holder, ()):
            lease = self.leases[identifier]
            if lease.end is None:
                self._end_later(identifier, lease, now)

    def holder_back(self, holder: str) -> None:
        """A holder is connected again."""
        for identifier in self._by_holder.get(holder, ()):
            self.leases[identifier].end = None
            self._ending.pop(identifier, None)

    def expired(self, now: float) -> list[str]:
        """Drop the leases whose end has come; returns them."""
        over = [identifier for identifier, lease in self._ending.items() if lease.end is not None and lease.end <= now]
        for identifier in over:
            self.drop(identifier)
        return over

    def of_workers(self) -> list[str]:
        """Find the leases that tasks took."""
        return [identifier for identifier, lease in self.leases.items() if lease.worker is not None]

    def _end_later(self, identifier: str, lease: Lease, now: float) -> None:
        lease.end = now + self.timeout
        self._ending[identifier] = lease
