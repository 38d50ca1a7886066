"""The connection of a client: what it does about messages that it does not know, and which questions it asks again."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from headrace.client import Client
from headrace.exceptions import CommClosedError
from headrace.messages.client import ClientEvent
from tests.client.fake_scheduler import FakeScheduler


class StrangeMessage:
    """No message of ours; only a scheduler in this process can send it."""


async def test_an_unknown_message_breaks_that_connection_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeScheduler()
    await fake.server.listen("inproc://")
    heard: list[Any] = []
    connected_again = asyncio.Event()
    register = fake.register

    async def registered(comm: Any, client: str, versions: Any, returning: bool) -> None:
        if returning:
            connected_again.set()
        await register(comm, client, versions, returning)

    fake.server.takeovers["register-client"] = registered
    async with Client(fake.address, asynchronous=True, timeout=5) as client:
        client._event_handlers["topic"] = heard.append
        fake.hold = True
        future = client.submit(abs, -1, key="x")
        await client.held.barrier()
        (stream,) = fake.streams.values()
        fake.run_held()
        stream.send_all([ClientEvent("topic", (0.0, 1)), StrangeMessage(), ClientEvent("topic", (0.0, 2))])
        async with asyncio.timeout(10):
            await connected_again.wait()
            assert await future == 1, "what came before it counts, and the next connection is as good as this one"
            assert await client.submit(abs, -2) == 2
    assert heard == [(0.0, 1)]
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.exc_info for record in errors] == [None]
    assert "does not handle messages of the class StrangeMessage" in errors[0].getMessage()
    await fake.server.close_comms()


@pytest.mark.parametrize("repeatable", [True, False])
async def test_only_what_the_scheduler_calls_repeatable_is_asked_again(repeatable: bool) -> None:
    async with FakeScheduler() as fake:
        fake.repeatable = ["get_story"] if repeatable else []
        asked: list[Any] = []

        def get_story(comm: Any, keys_or_stimuli: Any) -> list[Any]:
            asked.append(keys_or_stimuli)
            if len(asked) == 1:
                comm.abort()
            return []

        fake.server.handlers["get_story"] = get_story
        async with Client(fake.address, asynchronous=True, timeout=5) as client:
            question = client._call("get_story", keys_or_stimuli=["x"])
            if repeatable:
                assert await question == []
            else:
                with pytest.raises(CommClosedError):
                    await question
        assert asked == [["x"]] * (2 if repeatable else 1)


async def test_a_scheduler_that_calls_nothing_repeatable_is_asked_once() -> None:
    async with FakeScheduler() as fake, Client(fake.address, asynchronous=True, timeout=5) as client:
        assert fake.repeatable is None
        assert client.session.repeatable == frozenset()
