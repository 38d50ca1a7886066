"""Exceptions of the client: futures were cancelled, or a client is used that is closed. No behaviour here."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import CancelledError
from typing import NamedTuple


class FutureCancelledError(CancelledError):
    """The result of a future was asked for, but it was cancelled.

    Args:
        key: the future's key.
        reason: why it was cancelled.
        msg: what else is known about it.
    """

    key: object
    reason: str
    msg: str | None

    def __init__(self, key: object, reason: str | None, msg: str | None = None) -> None:
        self.key = key
        self.reason = reason or "unknown"
        self.msg = msg
        super().__init__(key, self.reason, msg)

    def __str__(self) -> str:
        text = f"{self.key} cancelled for reason: {self.reason}."
        return f"{text}\n{self.msg}" if self.msg else text


class LostFutureError(FutureCancelledError, KeyError):
    """A task is to be run again, but its future was cancelled or released: nobody knows the task any more."""


class CancelledFuturesGroup(NamedTuple):
    """Futures that were cancelled for the same reason."""

    errors: list[FutureCancelledError]
    reason: str


class FuturesCancelledError(CancelledError):
    """Some of the futures that were waited for were cancelled; grouped by reason."""

    def __init__(self, error_groups: list[CancelledFuturesGroup]) -> None:
        self.error_groups = error_groups
        super().__init__(error_groups)

    def __str__(self) -> str:
        count = sum(len(group.errors) for group in self.error_groups)
        lines = [f"{count} Future{'s' if count > 1 else ''} cancelled:"]
        for group in self.error_groups:
            keys = [error.key for error in group.errors]
            shown = ", ".join(map(str, keys[:5])) + (f", … ({len(keys) - 5} more)" if len(keys) > 5 else "")
            lines.append(f"for reason: {group.reason}: {shown}")
        return "\n".join(lines)

    @classmethod
    def of(cls, errors: Iterable[FutureCancelledError]) -> FuturesCancelledError:
        """Group errors by their reason."""
        groups: dict[str, list[FutureCancelledError]] = {}
        for error in errors:
            groups.setdefault(error.reason, []).append(error)
        return cls([CancelledFuturesGroup(list(group), reason) for reason, group in groups.items()])


class ClosedClientError(Exception):
    """The client is closed and cannot do this any more."""


class UnexpectedKeywordError(TypeError, ValueError):
    """A client was given keywords of a cluster, which it is not to start."""


class AllExit(Exception):
    """Stops waiting for a group of things as soon as one of them decides the outcome."""
