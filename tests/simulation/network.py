"""Connections between pairs, and requests: ordered in each direction of a pair, random between pairs, breakable.

A connection that breaks loses what had not arrived, another part in each direction, and each end learns of it in its
own time.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from .timeline import Timeline


class Receiver(Protocol):
    """Whoever is at the end of a link: it takes nothing while it is frozen (a stopped process)."""

    frozen_until: float


#: In place of a batch: the end of the connection.
CLOSE: list[Any] = []


class Link:
    """One direction of a connection."""

    def __init__(
        self,
        network: Network,
        receiver: Receiver,
        latency: float,
        on_batch: Callable[[list[Any]], None],
        on_close: Callable[[], None],
    ) -> None:
        self._network = network
        self._receiver = receiver
        self._latency = latency
        self._queue: deque[tuple[float, list[Any]]] = deque()
        self._last = 0.0
        self._cut = False
        self._pumping = 0.0
        self.on_batch = on_batch
        self.on_close = on_close

    def send(self, batch: list[Any]) -> None:
        """Deliver after a while, in order."""
        if self._cut:
            return
        timeline = self._network.timeline
        due = self._last = max(self._last, timeline.now + self._network.delay(self._latency))
        self._queue.append((due, batch))
        timeline.at(due, self._pump)

    def cut(self, time: float) -> None:
        """Nothing that is due later arrives; the receiver learns of the end then."""
        if self._cut:
            return
        self._cut = True
        while self._queue and self._queue[-1][0] > time:
            self._queue.pop()
        self._queue.append((time, CLOSE))
        self._network.timeline.at(time, self._pump)

    def finish(self) -> None:
        """The end comes after all that was sent."""
        self.cut(max(self._last, self._network.timeline.now + self._network.delay(self._latency)))

    def drop(self) -> None:
        """The receiver is gone, or does not listen any more."""
        self._cut = True
        self._queue.clear()

    def _pump(self) -> None:
        timeline, queue = self._network.timeline, self._queue
        batch: list[Any] = []
        while queue and queue[0][0] <= timeline.now:
            if self._receiver.frozen_until > timeline.now:
                timeline.at(self._receiver.frozen_until, self._pump)
                break
            part = queue.popleft()[1]
            if part is CLOSE:
                if batch:
                    self.on_batch(batch)
                self.on_close()
                return
            batch.extend(part)
        if batch:
            self.on_batch(batch)


class Connection:
    """A stream between two ends, `near` and `far`."""

    def __init__(self, network: Network, to_near: Link, to_far: Link) -> None:
        self._network = network
        self.to_near = to_near
        self.to_far = to_far
        self.broken = False

    def break_(self, near: float, far: float) -> None:
        """The network fails: the ends notice after so many seconds."""
        if not self.broken:
            self.broken = True
            now = self._network.timeline.now
            self.to_near.cut(now + near)
            self.to_far.cut(now + far)


class Network:
    """Latencies by pair, and requests with answers."""

    def __init__(self, timeline: Timeline, random: random.Random) -> None:
        self.timeline = timeline
        self.random = random
        self.scale = random.choice([0.0002, 0.001, 0.001, 0.01])
        self._latencies: dict[tuple[str, str], float] = {}
        #: how often a transfer fails although both ends live
        self.failure_rate = 0.0

    def latency(self, near: str, far: str) -> float:
        """The usual delay from one to the other, in seconds."""
        known = self._latencies.get((near, far))
        if known is None:
            known = self._latencies[near, far] = self.scale * self.random.choice([0.3, 1.0, 1.0, 3.0, 30.0])
        return known

    def delay(self, latency: float) -> float:
        """One message's delay: the usual one, or much longer."""
        draw = self.random.random
        if draw() < 0.03:
            return latency * 50 * draw()
        return latency * (0.5 + draw())

    def link(
        self,
        sender: str,
        name: str,
        receiver: Receiver,
        on_batch: Callable[[list[Any]], None],
        on_close: Callable[[], None],
    ) -> Link:
        """One direction from a sender to a receiver of this name."""
        return Link(self, receiver, self.latency(sender, name), on_batch, on_close)

    def request(
        self,
        sender: str,
        name: str,
        ask: Callable[[], Any],
        answer: Callable[[Any], None],
        fail: Callable[[], None],
    ) -> None:
        """Ask, and get the answer later. `ask` runs at the other end: it returns the answer, or raises `Unreachable`.

        A frozen end (`Frozen`, with the time until which) answers when it goes on, unless the asker loses patience.
        """
        latency = self.latency(sender, name)

        def arrive() -> None:
            try:
                reply = ask()
            except Frozen as frozen:
                if self.random.random() < 0.5:
                    self.timeline.at(frozen.until, arrive)
                else:
                    self.timeline.later(self.random.uniform(0.1, 3.0), fail)
                return
            except Unreachable:
                self.timeline.later(self.random.choice([0.001, 0.01, 0.5]), fail)
                return
            if self.random.random() < self.failure_rate:
                self.timeline.later(self.random.uniform(0, 0.1), fail)
            else:
                self.timeline.later(self.delay(latency), answer, reply)

        self.timeline.later(self.delay(latency), arrive)


class Unreachable(Exception):
    """Nobody is there."""


class Frozen(Exception):
    """Somebody is there, and does not answer until later."""

    def __init__(self, until: float) -> None:
        super().__init__(until)
        self.until = until
