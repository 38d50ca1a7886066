"""One connection with very many tiny messages does not hold up the others, nor does it fill the log."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest

from headrace.comm import Comm, complaints
from headrace.comm.complaints import Complaints
from headrace.comm.packets import buffers_to_write
from headrace.messages import FromWorker
from headrace.messages.worker import ReleasedData
from headrace.protocol.codec import StreamCodec
from tests.comm.transports import Collected, Transport

MANY = 3000


async def test_requests(transport: Transport) -> None:
    """Those of another connection are read in between."""
    order: list[str] = []
    ended = asyncio.Event()

    async def handle(comm: Comm) -> None:
        while True:
            request = await comm.read()
            order.append(request)
            if order.count("flood") == MANY and "honest" in order:
                ended.set()

    async with transport.listening(handle) as listener:
        greedy, honest = await transport.connect(listener), await transport.connect(listener)
        for _ in range(MANY):
            greedy.send("flood")
        honest.send("honest")
        async with asyncio.timeout(20):
            await ended.wait()
        assert order.index("honest") < MANY - 1
        greedy.abort()
        honest.abort()


async def test_messages_of_a_stream(socket_transport: Transport) -> None:
    """Tiny packets that come in one piece are handled in several turns, in their order, and with their end.

    Over TLS, in one: there, what has not been read when the other side closes is lost.
    """
    turns = {0}

    def next_turn() -> None:
        turns.add(len(turns))
        if not ended.errors:
            asyncio.get_running_loop().call_soon(next_turn)

    handled_in: list[int] = []

    class Noted(Collected):
        def on_batch(self, messages: list[object]) -> None:
            handled_in.append(len(turns))
            super().on_batch(messages)

    ended = Noted()
    async with socket_transport.pair() as (near, far):
        codec = StreamCodec()
        packets = [buffers_to_write(codec.encode([ReleasedData(f"x{number}")])) for number in range(MANY)]
        far.start_stream(FromWorker, ended.on_batch, ended.on_close)
        asyncio.get_running_loop().call_soon(next_turn)
        near._write_buffers([b"".join([bytes(part) for packet in packets for part in packet])])  # type: ignore[attr-defined]
        await near.close()
        await ended.wait_closed()
        assert [message.key for message in ended.messages] == [f"x{number}" for number in range(MANY)]
        assert max(map(handled_in.count, set(handled_in))) <= 300 or socket_transport.scheme in ("tls", "wss")


async def test_requests_that_were_held_back_come_when_others_are_read(socket_transport: Transport) -> None:
    async with socket_transport.pair() as (near, far):
        data = b"".join([bytes(part) for n in range(MANY) for part in buffers_to_write([msgspec.msgpack.encode(n)])])
        near._write_buffers([data])  # type: ignore[attr-defined]
        assert [await far.read() for _ in range(100)] == list(range(100))
        assert far.unread <= 64
        assert [await far.read() for _ in range(MANY - 100)] == list(range(100, MANY))
        await near.close()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_line_a_second_for_each_peer_and_kind(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    said = Complaints(logging.getLogger("distributed.example"), clock)
    for number in range(1000):
        said.say("a", "tcp://10.0.0.1:5", "wrong: %s", number)
        said.say("a", "tcp://10.0.0.2:5", "wrong there: %s", number)
        said.say("b", "tcp://10.0.0.1:5", "other: %s", f"{number}\nERROR forged")
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["wrong: 0", "wrong there: 0", "other: 0\\nERROR forged"]
    caplog.clear()
    clock.now += 1
    said.say("a", "tcp://10.0.0.1:5", "wrong: again")
    said.catch_up()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "wrong: again (999 more like this before)",
        "wrong there: 999 (the last of 999 more like this)",
        "other: 999\\nERROR forged (the last of 999 more like this)",
    ]
    caplog.clear()
    clock.now += 10
    said.catch_up()
    assert not caplog.records
    assert not said._said


def test_some_lines_at_once_for_the_peers_of_one_host(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    said = Complaints(logging.getLogger("distributed.example"), clock)
    for _ in range(20):  # ten seconds
        for number in range(100):
            said.say("a", f"tcp://10.0.0.1:{number}", "wrong: %s", number)
        clock.now += 0.5
    assert [record.getMessage() for record in caplog.records[:6]] == [
        *(f"wrong: {number}" for number in range(5)),
        "wrong: 0 (195 more like this before)",
    ]
    assert 12 <= len(caplog.records) <= 15


async def test_what_was_left_out_is_told_although_nothing_more_comes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complaints, "SECONDS", 0.01)
    said = Complaints(logging.getLogger("distributed.example"))
    for number in range(3):
        said.say("a", "tcp://10.0.0.1:1", "wrong: %s", number)
    async with asyncio.timeout(20):
        while "more like this" not in caplog.text:
            await asyncio.sleep(0.005)


def test_hosts_that_are_remembered_are_bounded() -> None:
    said = Complaints(logging.getLogger("distributed.example"), Clock())
    for number in range(complaints.MOST_REMEMBERED + 100):
        said.say("a", f"tcp://host{number}:1", "wrong")
    assert len(said._said) == complaints.MOST_REMEMBERED
