"""Large frames within one machine: lent, read, given back; and what happens to those who lie, die or leave."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import dask.config
import pytest

from headrace.comm import Comm, CommClosedError, connect
from headrace.comm.lent_memory import memory_link, same_machine, yama
from headrace.comm.lent_memory.memory_link import (
    AT_ONCE_BYTES,
    LEND_BYTES,
    PLACE,
    TAKEN,
    UNWELCOME,
    WELCOME,
    Reading,
    control,
    cut,
    identity,
    proof,
)
from headrace.comm.opening.handshake import handshake_info
from headrace.comm.packets import COMPRESSED, CONTROL, REFERENCE
from headrace.exceptions import MalformedDataError
from headrace.protocol import Frames
from headrace.testing.helpers.polling import async_poll_for
from tests.comm.opened import listeners_info, opening_bytes
from tests.comm.transports import Collected, Transport, free_frames, lending_from


def memory_can_be_read() -> bool:
    return sys.platform == "linux" and same_machine.is_readable(same_machine.address_of(b"some bytes"), 10)


pytestmark = pytest.mark.skipif(not memory_can_be_read(), reason="not Linux, or a sandbox that does not allow it")

LARGE = AT_ONCE_BYTES + 5000
Link = memory_link.MemoryLink


def link_of(comm: Any) -> Any:
    assert comm._memory is not None
    return comm._memory


class Taken:
    """Counts what was taken from memory."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.frames = 0
        original = Link._note_taken

        def note(link: Any, count: int) -> None:
            self.frames += count
            original(link, count)

        patch.setattr(Link, "_note_taken", note)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    return Taken(monkeypatch)


@contextmanager
def echo_process() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    script = Path(__file__).with_name("echo_process.py")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


@pytest.mark.slow
async def test_frames_between_processes(taken: Taken) -> None:
    """Sizes around the thresholds, with small messages before and after, both ways at once."""
    sizes = [LEND_BYTES - 1, LEND_BYTES, 1_500_001, AT_ONCE_BYTES, LARGE, 3 * AT_ONCE_BYTES, 10]
    data = [os.urandom(size) for size in sizes]
    with echo_process() as (address, _):
        comm = await connect(address, timeout=20)

        async def send() -> None:
            for number, frame in enumerate(data):
                comm.send(number)
                await comm.write({"frames": Frames([b"head", frame, b"", frame[:100]]), "number": number})
            await comm.write({"frames": Frames([b"head", *data]), "number": -1})

        sending = asyncio.ensure_future(send())
        for number, frame in enumerate(data):
            assert await comm.read() == number
            message = await comm.read()
            assert message["number"] == number
            got = message["frames"].frames
            assert [bytes(part) for part in got] == [b"head", frame, b"", frame[:100]]
            got[1][0] = 17  # writable
        assert [bytes(part) for part in (await comm.read())["frames"].frames[1:]] == data
        await sending
        await async_poll_for(lambda: link_of(comm).settled, 20)
        await comm.close()
    # The other process may have sent the first two by the socket, while it asked.
    assert 8 <= taken.frames <= 10


async def test_the_first_large_packet_waits_for_the_answer(taken: Taken) -> None:
    async with Transport("tcp").pair() as (near, far):
        near.send(Frames([b"head", bytes(LARGE)]))
        for number in range(10):
            near.send(number)
        near.send(Frames([b"head", bytes(2 * LEND_BYTES)]))
        assert (await far.read()).nbytes == LARGE + 4
        assert [await far.read() for _ in range(10)] == list(range(10))
        assert (await far.read()).nbytes == 2 * LEND_BYTES + 4
        assert taken.frames == 1  # what waits behind it goes through the socket
        near.send(Frames([b"head", bytes(2 * LEND_BYTES)]))
        await far.read()
        assert taken.frames == 2


async def test_very_many_frames_go_through_the_socket(taken: Taken) -> None:
    """As addresses they would be too many for their bytes."""
    with lending_from(5000), free_frames(20):
        async with Transport("tcp").pair() as (near, far):
            for count in (100, 10):
                sent = [bytes([number]) * 5000 for number in range(count)]
                near.send(Frames(list(sent)))
                assert (await far.read()).frames == sent
    assert taken.frames == 10


async def test_frames_are_let_go_when_they_were_read() -> None:
    numpy = pytest.importorskip("numpy")
    async with Transport("tcp").pair() as (near, far):
        for size in (2 * LEND_BYTES, LARGE):
            array = numpy.ones(size, "u1")
            gone = weakref.ref(array)
            await asyncio.gather(near.write(Frames([b"head", array.data])), far.read())
            del array
            await async_poll_for(lambda gone=gone: gone() is None, 20)
        assert link_of(near).settled


async def test_writing_waits_for_what_is_lent() -> None:
    async with Transport("tcp").pair() as (near, far):
        with held_reading() as (began, go_on):
            writing = asyncio.ensure_future(near.write(Frames([b"head", bytes(LARGE)])))
            await asyncio.to_thread(began.wait, 20)
            await asyncio.sleep(0.01)
            assert not writing.done()
            go_on.set()
            await far.read()
            await writing


async def test_nobody_waits_for_what_is_not_read() -> None:
    """This end has many messages to read, and so would not hear that what it lent has been taken."""
    async with Transport("tcp").pair() as (near, far):
        for size in (LARGE, 6 << 20):
            for number in range(100):
                near.send(number)
            await async_poll_for(lambda: far._paused, 20)  # type: ignore[attr-defined]
            async with asyncio.timeout(20):
                await far.write(Frames([b"head", bytes(size)]))
            assert (await near.read()).nbytes == size + 4
            assert [await far.read() for _ in range(100)] == list(range(100))


@contextmanager
def held_reading() -> Iterator[tuple[threading.Event, threading.Event]]:
    """Threads that read wait: the first event says that one does, the second lets them go on."""
    began, go_on = threading.Event(), threading.Event()
    original = same_machine.read_memory

    def read_memory(pid: int, parts: Any) -> None:
        if threading.current_thread().name == "Headrace-Memory":
            began.set()
            go_on.wait(20)
        original(pid, parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(same_machine, "read_memory", read_memory)
        try:
            yield began, go_on
        finally:
            go_on.set()


@pytest.mark.parametrize("who", ["lender", "reader"])
async def test_an_end_that_leaves_in_mid_read(who: str, logs: pytest.LogCaptureFixture) -> None:
    numpy = pytest.importorskip("numpy")
    async with Transport("tcp").pair() as (near, far):
        with held_reading() as (began, go_on):
            array = numpy.ones(LARGE, "u1")
            gone = weakref.ref(array)
            near.send(Frames([b"head", array.data]))
            near.send("after")
            del array
            reading = asyncio.ensure_future(far.read())
            await asyncio.to_thread(began.wait, 20)
            (near if who == "lender" else far).abort()
            await async_poll_for(lambda: gone() is None, 20)
            go_on.set()
            with pytest.raises(CommClosedError, match="middle of a message" if who == "lender" else "closed"):
                await reading
            with pytest.raises(CommClosedError):
                await far.read()
        await async_poll_for(lambda: not reading_threads(), 20)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "Headrace-Memory"]


@pytest.mark.parametrize(("size", "after"), [(2 * LEND_BYTES, 0), (LARGE, 0), (LARGE, 3)])
async def test_a_lender_that_is_killed(size: int, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the read, or after so many pieces of it."""
    monkeypatch.setattr(memory_link, "PIECE_BYTES", 1 << 20)
    original = same_machine.read_memory
    with echo_process() as (address, process):
        comm = await connect(address, timeout=20)
        await comm.write(Frames([b"head", bytes(5 << 20)]))
        await comm.read()  # both are welcome now
        pieces, progress = [], set()

        def read_memory(pid: int, parts: Any) -> None:
            if pid == process.pid:
                pieces.append(parts)
                progress.add(comm.progress)
                if len(pieces) == after + 1:
                    process.kill()
                    process.wait(20)
            original(pid, parts)

        monkeypatch.setattr(same_machine, "read_memory", read_memory)
        comm.send(Frames([b"head", bytes(size)]))
        with pytest.raises(CommClosedError):
            await comm.read()
        assert len(pieces) > after
        assert len(progress) > (after > 0)
        await comm.close()
        await async_poll_for(lambda: not reading_threads(), 20)


async def test_a_stream_that_is_closed_by_what_it_got() -> None:
    """What has come behind it is not delivered."""
    ended = Collected()

    def on_batch(messages: list[Any]) -> None:
        ended.on_batch(messages)
        far.abort()

    async with Transport("tcp").pair() as (near, far):
        far.start_stream(Any, on_batch, ended.on_close)
        near.start_stream(Any, lambda _: None, lambda _: None)
        with held_reading() as (began, go_on):
            near.send([Frames([bytes(LARGE)])])
            near.send(["after"])
            await asyncio.to_thread(began.wait, 20)
            go_on.set()
            await ended.wait_closed()
        assert len(ended.batches) == 1


async def test_both_close_with_much_lent() -> None:
    """Neither reads what the other sent, and neither waits for the other for long."""
    async with Transport("tcp").pair() as (near, far):
        with lending_from(1000):
            for comm in (near, far):
                comm.send(Frames([b"head", bytes(2000)]))
            for comm in (near, far):
                await comm.read()
        for comm in (near, far):
            comm.send(Frames([b"head", bytes(LARGE)]))
            comm.send(Frames([b"head", bytes(2 * LEND_BYTES)]))
        async with asyncio.timeout(8):  # less than what it waits for those who do not answer
            await asyncio.gather(near.close(), far.close())


async def test_switched_off() -> None:
    with dask.config.set({"distributed.comm.same-machine-memory": False}):
        async with Transport("tcp").pair() as (near, far):
            assert near._memory is far._memory is None  # type: ignore[attr-defined]


async def test_one_end_only() -> None:
    async def handle(comm: Comm) -> None:
        await comm.write(await comm.read())

    async with Transport("tcp").listening(handle) as listener:
        with dask.config.set({"distributed.comm.same-machine-memory": False}):
            comm = await connect(listener.contact_address, timeout=20)
        await comm.write(Frames([b"head", bytes(LARGE)]))
        assert (await comm.read()).nbytes == LARGE + 4
        await comm.close()


async def test_encrypted_connections_stay_on_the_socket(security: Any) -> None:
    transport = Transport("tls", security.get_listen_args("scheduler"), security.get_connection_args("client"))
    async with transport.pair() as (near, far):
        assert near._memory is far._memory is None  # type: ignore[attr-defined]


async def test_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [bytes([number]) * 16 for number in range(2)]
    monkeypatch.setattr(memory_link, "identity", lambda: names.pop())
    async with Transport("tcp").pair() as (near, far):
        assert near._memory is far._memory is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("who", ["lender", "reader"])
async def test_a_system_that_does_not_allow_it(who: str, monkeypatch: pytest.MonkeyPatch, taken: Taken) -> None:
    original, denied = same_machine.read_memory, []

    def read_memory(pid: int, parts: Any) -> None:
        if (len(parts) == 2) == (who == "lender"):  # whether it can be read at all is tried at two places
            denied.append(parts)
            raise PermissionError("not allowed")
        original(pid, parts)

    monkeypatch.setattr(same_machine, "read_memory", read_memory)
    async with Transport("tcp").pair() as (near, far):
        for size in (LARGE, 2 * LEND_BYTES):
            await asyncio.gather(
                near.write(Frames([b"head", bytes(size)])), reader := asyncio.ensure_future(far.read())
            )
            assert reader.result().nbytes == size + 4
    assert len(denied) == 1
    assert not taken.frames


# -- peers that lie


class Liar:
    """Speaks the protocol by hand, from this process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.slot = same_machine.take_slot()

    async def shake_hands(self) -> None:
        name = identity()
        assert name is not None
        memory = {"identity": name, "challenge": bytes(16)}
        self.writer.write(opening_bytes({**handshake_info(), "memory": memory}))
        info = await listeners_info(self.reader)
        host, port = self.writer.get_extra_info("sockname")
        peer_host, peer_port = self.writer.get_extra_info("peername")
        challenge = info["memory"]["challenge"]
        self.slot.put(proof(challenge, f"tcp://{host}:{port}", f"tcp://{peer_host}:{peer_port}"))

    async def answer(self) -> int:
        data = await self.reader.readexactly(len(control(0)))
        count, length, word, _, _ = struct.unpack("<IQBQQ", data)
        assert (count, length) == (1, 17 | CONTROL)
        return int(word)

    async def introduce_itself(self) -> None:
        self.writer.write(control(PLACE, os.getpid(), self.slot.address))
        assert await self.answer() == WELCOME


@asynccontextmanager
async def lying() -> AsyncIterator[tuple[Liar, Comm]]:
    accepted: asyncio.Future[Comm] = asyncio.get_running_loop().create_future()

    async def handle(comm: Comm) -> None:
        accepted.set_result(comm)

    async with Transport("tcp").listening(handle) as listener:
        host, port = listener.contact_address.rpartition("//")[2].split(":")
        liar = Liar(*await asyncio.open_connection(host, int(port)))
        try:
            await liar.shake_hands()
            yield liar, await accepted
        finally:
            liar.writer.close()
            same_machine.give_back(liar.slot)
            await (await accepted).close()


def reference(address: int, nbytes: int) -> bytes:
    return struct.pack("<IQQ", 1, nbytes | REFERENCE, address)


async def test_an_honest_stranger() -> None:
    data = b"\x91" + bytes(1)  # [0]
    async with lying() as (liar, comm):
        await liar.introduce_itself()
        liar.writer.write(reference(same_machine.address_of(data), len(data)))
        assert await comm.read() == [0]
        assert await liar.answer() == TAKEN


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (reference(1 << 20, 100), "none was asked for"),
        (control(TAKEN, 1), "no sense"),
        (control(WELCOME), "no sense"),
        (control(77), "no sense"),
        (struct.pack("<IQ", 1, 3 | CONTROL) + b"abc", "3 bytes about memory"),
        (struct.pack("<IQQ", 2, 17 | CONTROL, 1) + bytes(18), "among other frames"),
        (struct.pack("<IQQ", 1, REFERENCE | CONTROL | 17, 0), "among other frames"),
    ],
)
async def test_words_that_make_no_sense(words: bytes, expected: str, logs: pytest.LogCaptureFixture) -> None:
    async with lying() as (liar, comm):
        liar.writer.write(words)
        with pytest.raises(MalformedDataError, match=expected):
            await comm.read()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (reference(1 << 20, 2**60), "announced"),
        (reference(16, 100), "cannot be read"),
        (reference(2**64 - 1, 100), "cannot be read"),
        (reference(16, LARGE), "cannot be read"),
        (control(PLACE, 1, 1), "no sense"),
        (struct.pack("<IQQ", 1, 100 | REFERENCE | COMPRESSED, 16), "compressed"),
    ],
)
async def test_welcome_strangers_that_lie(words: bytes, expected: str, logs: pytest.LogCaptureFixture) -> None:
    async with lying() as (liar, comm):
        await liar.introduce_itself()
        liar.writer.write(words)
        with pytest.raises(MalformedDataError, match=expected):
            await comm.read()


async def test_a_proof_that_is_taken_away(logs: pytest.LogCaptureFixture) -> None:
    async with lying() as (liar, comm):
        await liar.introduce_itself()
        liar.slot.clear()
        liar.writer.write(reference(liar.slot.address, 16))
        with pytest.raises(CommClosedError, match="middle of a message"):
            await comm.read()


@pytest.mark.parametrize("place", [(0, 0), (2**40, 1), (1, 4096), None])
async def test_wrong_proofs_are_not_welcome(place: tuple[int, int] | None) -> None:
    """The connection goes on, and refuses references."""
    async with lying() as (liar, comm):
        liar.slot.put(b"something else..")
        liar.writer.write(control(PLACE, *(place or (os.getpid(), liar.slot.address))))
        assert await liar.answer() == UNWELCOME
        liar.writer.write(struct.pack("<IQ", 1, 1) + b"\x05" + reference(liar.slot.address, 16))
        assert await comm.read() == 5
        with pytest.raises(MalformedDataError):
            await comm.read()


async def test_an_answer_to_another_connection_s_challenge() -> None:
    """A proof holds for the ends that made it, not for somebody between them."""
    challenge = os.urandom(16)
    assert proof(challenge, "tcp://a:1", "tcp://b:2") != proof(challenge, "tcp://a:1", "tcp://c:3")
    assert proof(challenge, "tcp://a:1", "tcp://b:2") != proof(challenge, "tcp://b:2", "tcp://a:1")


@pytest.mark.parametrize("memory", [None, 5, {}, {"identity": 1}, {"challenge": 3}, {"challenge": b"short"}])
def test_handshakes_that_say_strange_things_about_memory(memory: Any) -> None:
    offered = memory_link.offer()
    assert offered is not None
    if isinstance(memory, dict) and "challenge" in memory:
        memory = {"identity": offered["identity"], **memory}
    assert memory_link.link_memory(offered, memory, "a", "b", lambda _: None) is None


# -- memory


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it may have threads, says Python 3.12
def test_slots_are_empty_in_forked_children() -> None:
    slot = same_machine.take_slot()
    slot.put(b"0123456789abcdef")
    shown = bytearray(16)
    child = os.fork()
    if not child:
        same_machine.read_memory(os.getpid(), [(slot.address, shown)])
        os._exit(0 if shown == bytes(16) else 1)
    assert os.waitpid(child, 0)[1] == 0
    same_machine.read_memory(os.getpid(), [(slot.address, shown)])
    assert shown == b"0123456789abcdef"
    same_machine.give_back(slot)
    same_machine.read_memory(os.getpid(), [(slot.address, shown)])
    assert shown == bytes(16)


def test_there_are_always_more_slots() -> None:
    slots = [same_machine.take_slot() for _ in range(1000)]
    assert len({slot.address for slot in slots}) == 1000
    for slot in slots:
        same_machine.give_back(slot)


def test_a_forgotten_link_shows_no_proof() -> None:
    said: list[bytes] = []
    link = Link(b"0123456789abcdef", bytes(16), "b", said.append)
    assert not link.should_wait([])
    _, _, _, pid, address = struct.unpack("<IQBQQ", said[0])
    shown = bytearray(16)
    same_machine.read_memory(pid, [(address, shown)])
    assert shown == b"0123456789abcdef"
    del link
    same_machine.read_memory(pid, [(address, shown)])
    assert shown == bytes(16)


def test_many_ranges_in_one_read() -> None:
    source, target = os.urandom(40_000), bytearray(40_000)
    start, view = same_machine.address_of(source), memoryview(target)
    parts = [(start + place, view[place : place + 10]) for place in range(0, 40_000, 10)]
    same_machine.read_memory(os.getpid(), [(0, view[:0]), *parts])
    assert target == source
    with pytest.raises(OSError, match="address"):
        same_machine.read_memory(os.getpid(), [*parts[:3], (16, view[30:])])


def test_what_others_could_not_read() -> None:
    assert same_machine.is_readable(same_machine.address_of(b"some bytes"), 10)
    assert not same_machine.is_readable(16, 10)


@pytest.mark.parametrize("nbytes", [1, 4096, 10_000, 1 << 30])
def test_cutting(nbytes: int) -> None:
    targets = [memoryview(bytearray(size)) for size in (10, 0, 5000, 50_000)]
    pieces = cut([(1 << 20, target) for target in targets], nbytes)
    sizes = [sum(len(target) for _, target in piece) for piece in pieces]
    assert sum(sizes) == 55_010
    assert all(size == -(-nbytes // 4096) * 4096 for size in sizes[:-1])
    assert all(address >= 1 << 20 for piece in pieces for address, _ in piece)


def test_a_system_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    source, target, done = os.urandom(100_000), bytearray(100_000), []
    reading = Reading(os.getpid(), [(same_machine.address_of(source), memoryview(target))], lambda: done.append(1))
    reading.start()
    assert done == [1]
    assert target == source
    assert reading.done_bytes == 100_000


# -- permission


@pytest.mark.parametrize(("content", "expected"), [("1\n", True), ("0\n", False), ("2\n", False), (None, False)])
def test_where_siblings_need_permission(tmp_path: Path, content: str | None, expected: bool) -> None:
    path = tmp_path / "ptrace_scope"
    if content is not None:
        path.write_text(content)
    assert yama.restricts_siblings(str(path)) is expected


@pytest.mark.parametrize("told", ["17", "", "nobody"])
def test_what_is_told_is_done_once(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[int] = []
    monkeypatch.setattr(yama, "allow_reading", allowed.append)
    monkeypatch.setenv(yama.READER, told)
    yama.allow_as_told()
    yama.allow_as_told()
    assert allowed == ([17] if told == "17" else [])
    assert yama.READER not in os.environ


def test_permission_can_be_asked_for() -> None:
    assert yama.allow_reading(os.getpid()) is yama.restricts_siblings() or not yama.restricts_siblings()
