"""The log of events, for clients: what is in it, entries of theirs, and who follows which topic."""

from __future__ import annotations

from typing import Any, TypeAlias

from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell

#: When it was logged, in seconds since the epoch, and what.
TopicEvent: TypeAlias = tuple[float, Any]


class EventRequests:
    """Questions about events, and subscriptions."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.core = shell.core

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "events": Operation(self.get_events, repeatable=True),
            "log_event": Operation(self.shell.log_event),
            "subscribe_topic": Operation(self.subscribe_topic),
            "unsubscribe_topic": Operation(self.unsubscribe_topic),
        }

    def get_events(self, topic: str | None = None) -> tuple[TopicEvent, ...] | dict[str, tuple[TopicEvent, ...]]:
        """Events of a topic, or of all by topic, oldest first: (time, event)."""
        if topic is not None:
            return tuple(self.shell.events.get(topic, ()))
        return {name: tuple(log) for name, log in self.shell.events.items()}

    def subscribe_topic(self, topic: str, client: str) -> None:
        """Send a topic's events to a client from now on, until it leaves."""
        if client in self.core.clients:
            self.shell.event_subscribers.setdefault(topic, set()).add(client)

    def unsubscribe_topic(self, topic: str, client: str) -> None:
        """Send a topic's events to a client no more."""
        subscribers = self.shell.event_subscribers.get(topic)
        if subscribers is not None:
            subscribers.discard(client)
            if not subscribers:
                del self.shell.event_subscribers[topic]
