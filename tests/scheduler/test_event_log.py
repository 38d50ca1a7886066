"""The log of events has bounds, and nothing is kept of subscribers that have gone."""

from __future__ import annotations

import asyncio

import pytest

from headrace.messages.client import CloseClient
from headrace.scheduler import event_log
from headrace.scheduler.event_log import Topics
from tests.scheduler.test_server import join_client, running


def test_the_least_used_topics_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MOST_TOPICS", 3)
    subscribers: dict[str, set[str]] = {"heard": {"alice"}, "left": set()}
    log = Topics(subscribers, 10)
    for topic in ("heard", "left", "a", "left", "b", "c"):
        log.add(topic, (0.0, topic))
    assert list(log) == ["heard", "b", "c"]
    subscribers.update(b={"alice"}, c={"alice"})
    log.add("d", (0.0, "d"))
    assert list(log) == ["b", "c", "d"]


def test_events_of_a_topic_are_bounded() -> None:
    log = Topics({}, 2)
    for number in range(5):
        log.add("a", (0.0, number))
    assert list(log["a"]) == [(0.0, 3), (0.0, 4)]


async def test_subscriptions_end_with_their_client() -> None:
    async with running() as scheduler:
        client = await join_client(scheduler)
        scheduler.subscribe_topic("a", "alice")
        scheduler.subscribe_topic("a", "nobody")
        scheduler.subscribe_topic("b", "alice")
        scheduler.unsubscribe_topic("b", "alice")
        scheduler.unsubscribe_topic("c", "alice")
        assert scheduler.event_subscribers == {"a": {"alice"}, "print": {"alice"}, "warn": {"alice"}}
        client.stream.send(CloseClient())
        async with asyncio.timeout(10):
            await client.closed.wait()
        assert not scheduler.event_subscribers
