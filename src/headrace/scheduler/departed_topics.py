"""Forgets what was logged about workers and clients some time after they have left, so that topics do not pile up.

One timer for all of them. Must not touch topics that a user named.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any


class DepartedTopics:
    """Topics of those who have left, to be removed from the log of events.

    Args:
        events: the log, by topic.
        is_back: whether the worker or client of a topic is there (again).
        delay: seconds that a topic stays (`distributed.scheduler.events-cleanup-delay`).
    """

    def __init__(self, events: MutableMapping[str, Any], is_back: Callable[[str], bool], delay: float) -> None:
        self.delay = delay
        self._events = events
        self._is_back = is_back
        self._due: deque[tuple[float, str]] = deque()  # the delay is the same for all: in order of time
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, topic: str) -> None:
        """The worker or client that events were logged about under this topic has left."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        self._due.append((loop.time() + self.delay, topic))
        if self._timer is None:
            self._timer = loop.call_later(self.delay, self._forget, loop)

    def cancel(self) -> None:
        """The scheduler closes."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        due, now = self._due, loop.time()
        while due and due[0][0] <= now:
            topic = due.popleft()[1]
            if not self._is_back(topic):
                self._events.pop(topic, None)
        self._timer = loop.call_at(due[0][0], self._forget, loop) if due else None
