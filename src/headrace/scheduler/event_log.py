"""The log of events, by topic: so many of each, and so many topics, of which the least used go first."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

#: Topics kept; beyond, that whose last event is oldest goes, unless somebody listens to it.
MOST_TOPICS = 10_000


class Topics(dict[str, deque[tuple[float, Any]]]):
    """Events by topic, the topic of the latest event last.

    Args:
        subscribers: who listens, by topic.
        length: events kept a topic (`distributed.admin.low-level-log-length`).
    """

    def __init__(self, subscribers: Mapping[str, Collection[str]], length: int) -> None:
        super().__init__()
        self._subscribers = subscribers
        self._length = length

    def add(self, topic: str, event: tuple[float, Any]) -> None:
        """Log an event."""
        log = self.pop(topic, None)
        if log is None:
            log = deque(maxlen=self._length)
            while len(self) >= MOST_TOPICS:
                del self[self._least_used()]
        self[topic] = log
        log.append(event)

    def _least_used(self) -> str:
        return next((topic for topic in self if not self._subscribers.get(topic)), next(iter(self)))
