"""Tallies: what a scheduler has counted since it started. None of it ever falls, and nothing is decided by it."""

from __future__ import annotations


class Tallies:
    """Numbers of what has come and gone.

    Attributes:
        workers_added, workers_removed: workers that have registered, and that have gone; a worker that comes back after
            its connection broke is neither.
        workers_lost: of those that have gone, the ones that died or were taken for dead.
        clients_added, clients_removed: likewise.
        thread_seconds: seconds that threads of workers have been there, all together, until `threads_since`.
        threads_since: when the number of threads changed last, by the clock that is never set.
    """

    __slots__ = (
        "clients_added",
        "clients_removed",
        "thread_seconds",
        "threads_since",
        "workers_added",
        "workers_lost",
        "workers_removed",
    )

    def __init__(self) -> None:
        self.workers_added = 0
        self.workers_removed = 0
        self.workers_lost = 0
        self.clients_added = 0
        self.clients_removed = 0
        self.thread_seconds = 0.0
        self.threads_since = 0.0

    def threads_change(self, threads: int, now: float) -> None:
        """Note that there have been so many threads until now, and will be more or fewer."""
        self.thread_seconds = self.thread_seconds_until(threads, now)
        self.threads_since = now

    def thread_seconds_until(self, threads: int, now: float) -> float:
        """Seconds of threads until now, of which there are so many since the last change."""
        return self.thread_seconds + threads * max(0.0, now - self.threads_since)
