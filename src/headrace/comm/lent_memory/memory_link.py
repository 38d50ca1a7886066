"""Large frames within one machine: a packet carries an address, and its receiver reads the sender's memory.

The module holds the part of each end of a connection, without its socket. An end proves that it is the process that it
says it is:

- Handshakes carry `identity()` and a random challenge. If the identities are equal, an end that has large frames to
  send puts a proof, made of the other's challenge and of the connection's addresses, into a slot of its memory, and
  tells the other end the slot's address (`PLACE`). The other end reads the slot, and answers whether the proof is right
  (`WELCOME`, `UNWELCOME`).
- A welcome end lends large frames: it keeps them unchanged until the receiver says that it has `TAKEN` them. A lender
  empties its slot before it lets go of frames in any other way. A receiver looks at the slot again after it has read
  frames and before it delivers them. A proof is good for one connection, so that the next user of a slot shows another.

An end only sends control packets that the other end waits for. If an end closes its socket while unread bytes are in
it, the system resets the connection, and the other end loses the bytes that it has not read yet. So the owner of a
connection closes the socket only once its link is `settled`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

from headrace.comm.frame_memory import allocate
from headrace.comm.packets import (
    COMPRESSED,
    CONTROL,
    FLAGGED,
    LENGTH,
    REFERENCE,
    PacketError,
    buffers_to_write,
)
from headrace.exceptions import CommClosedError
from headrace.protocol.frames import Frame

from . import same_machine

if TYPE_CHECKING:
    from .same_machine import Slot

logger = logging.getLogger("distributed.comm.tcp")

#: Frames from this size on are lent. Measured between two processes, a reference costs 0.2 ms of processor time and a
#: megabyte in either way 0.1 ms (lent) or 0.4 ms (socket), so that it needs less from 600 kB on, and half at 2 MB.
LEND_BYTES = 1_000_000
#: A packet of so many bytes waits for the answer whether its frames may be lent.
WORTH_WAITING_BYTES = 4 << 20
#: Packets that refer to no more bytes than this are read on the event loop, which takes 2 ms; longer ones in threads
#: while the loop goes on. To start a thread and wait for its end costs 0.2 ms, but 2 ms where all processors are busy.
AT_ONCE_BYTES = 16 << 20
#: Threads that read one packet: a single one does not use the whole bandwidth of the memory.
THREADS = 2
#: Longest piece that a thread reads at a time: after each it takes the interpreter's lock and reports its progress.
PIECE_BYTES = 64 << 20
#: Lent bytes above which a sender waits, and below which it goes on.
HIGH_WATER = 4 << 20
LOW_WATER = 1 << 20

#: The first of the three numbers in a control packet, and what the others are: `PLACE` process address, `WELCOME`,
#: `UNWELCOME`, `TAKEN` frames.
PLACE, WELCOME, UNWELCOME, TAKEN = 1, 2, 3, 4
_words = struct.Struct("<BQQ")
_address = struct.Struct("<Q")
#: Bytes of a challenge.
_CHALLENGE_BYTES = 16


@lru_cache
def identity() -> bytes | None:
    """A digest of machine, process namespace and user: processes that may read each other's memory have the same.

    None where the system has no such thing.
    """
    if sys.platform != "linux":
        return None
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            machine = file.read()
        numbering = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None
    return blake2b(b"%s %d %d" % (machine, numbering, os.getuid()), digest_size=16).digest()


def offer() -> dict[str, bytes] | None:
    """The entry of this end about memory in a connection's handshake; None where memory cannot be read."""
    name = identity()
    return None if name is None else {"identity": name, "challenge": os.urandom(_CHALLENGE_BYTES)}


def control(word: int, first: int = 0, second: int = 0) -> bytes:
    """A control packet."""
    body = _words.pack(word, first, second)
    return bytes(buffers_to_write([body], [len(body) | CONTROL])[0])


def proof(challenge: bytes, holder: str, reader: str) -> bytes:
    """The proof that `holder` shows in answer to a challenge of `reader`.

    Both are addresses of the connection's ends, so that a man in the middle cannot have a third process answer.
    """
    return blake2b(f"{holder} {reader}".encode(), key=challenge, digest_size=16).digest()


def link_memory(
    offered: dict[str, bytes] | None, answer: object, own_name: str, peer_name: str, write: Callable[[bytes], object]
) -> MemoryLink | None:
    """A link, if the other end's handshake says that it may be on this machine.

    Args:
        offered, answer: the entries about memory in this end's and in the other end's handshake.
        own_name, peer_name: addresses of the connection's ends.
        write: sends bytes to the other end.
    """
    if offered is None or not isinstance(answer, dict) or answer.get("identity") != offered["identity"]:
        return None
    challenge = answer.get("challenge")
    if not isinstance(challenge, bytes) or len(challenge) != _CHALLENGE_BYTES:
        return None
    expected = proof(offered["challenge"], peer_name, own_name)
    return MemoryLink(proof(challenge, own_name, peer_name), expected, peer_name, write)


class MemoryLink:
    """The lending and reading of memory by one end of a connection.

    Args:
        own: this end's proof.
        expected: the other end's proof.
        peer_name: the other end's address, for messages.
        write: sends bytes to the other end.

    Attributes:
        drain: done when so few bytes are lent that a sender may go on; None while a sender need not wait.
        when_answered: called once, when the other end has answered whether this one is welcome.
        when_settled: called once, when this end waits for nothing more from the other.
    """

    def __init__(self, own: bytes, expected: bytes, peer_name: str, write: Callable[[bytes], object]) -> None:
        self.drain: asyncio.Future[None] | None = None
        self.when_answered: Callable[[], object] | None = None
        self.when_settled: Callable[[], object] | None = None
        self._own = own
        self._expected = expected
        self._peer_name = peer_name
        self._write = write
        #: where this end shows its proof
        self._slot: Slot | None = None
        self._has_asked = self._welcome = self._revoked = False
        self._waits_for_answer = False
        self._lent: deque[memoryview] = deque()
        self._lent_bytes = 0
        #: process and address at which the other end shows its proof
        self._source: tuple[int, int] | None = None
        self._was_asked = False
        self._taken = 0
        self._reading: Reading | None = None

    def __del__(self) -> None:
        # The loop ended without closing its connections. Lent frames may change from now on, so nobody may trust them.
        if self._slot is not None:
            self._slot.clear()

    @property
    def lent_little(self) -> bool:
        """Whether so few bytes are lent that senders need not wait."""
        return self._lent_bytes <= HIGH_WATER

    @property
    def lent_bytes(self) -> int:
        """Bytes that the other end has not taken yet."""
        return self._lent_bytes

    @property
    def settled(self) -> bool:
        """Whether this end waits for neither an answer nor the return of lent frames, so that it may close."""
        return not (self._waits_for_answer or self._lent)

    def on_control(self, frame: Frame) -> None:
        """Act on a control packet of the other end.

        Raises:
            PacketError: the packet makes no sense, or not in this state.
        """
        if len(frame) != _words.size:
            raise PacketError(f"{len(frame)} bytes about memory (expected {_words.size})")
        word, first, second = _words.unpack(frame)
        if word == PLACE and not self._was_asked:
            self._was_asked = True
            self._source = first, second
            if self._peer_holds():
                self._write(control(WELCOME))
            else:
                self._source = None
                self._write(control(UNWELCOME))
                logger.debug("The memory of %s cannot be read: frames go through the socket", self._peer_name)
        elif word in (WELCOME, UNWELCOME) and self._waits_for_answer:
            self._waits_for_answer = False
            self._welcome = word == WELCOME
            if self.when_answered is not None:
                self.when_answered()
        elif word == TAKEN and first <= len(self._lent):
            self._take_back(first)
        else:
            raise PacketError(f"what is said about memory makes no sense: {word}, {first}, {second}")
        if self.settled and self.when_settled is not None:
            call, self.when_settled = self.when_settled, None
            call()

    # -- lending

    def should_wait(self, frames: list[Frame]) -> bool:
        """Whether a packet is large enough to wait for the answer, if that is still to come. The first packet asks."""
        if not self._has_asked:
            self._ask()
        if not self._waits_for_answer or sum(map(len, frames)) < WORTH_WAITING_BYTES:
            return False
        self.drain = self.drain or asyncio.get_running_loop().create_future()
        return True

    def lend(self, frames: list[Frame], lengths: list[int] | None) -> tuple[list[Frame], list[int] | None]:
        """Frames as they should travel, with lent ones replaced by their addresses; and their lengths with flags.

        Args:
            lengths: lengths with flags, if any frame has one: a frame with a flag is not lent.
        """
        if not self._welcome or self._revoked:
            return frames, lengths
        lengths = list(map(len, frames)) if lengths is None else lengths
        frames = list(frames)
        system = same_machine
        for place, (frame, length) in enumerate(zip(frames, lengths, strict=True)):
            if not LEND_BYTES <= length < FLAGGED:
                continue
            kept = memoryview(frame)
            if not kept.c_contiguous or not system.is_readable(address := system.address_of(kept), length):
                continue
            self._lent.append(kept)
            self._lent_bytes += length
            frames[place], lengths[place] = _address.pack(address), length | REFERENCE
        if self._lent_bytes > HIGH_WATER and self.drain is None:
            self.drain = asyncio.get_running_loop().create_future()
        return frames, lengths

    def _ask(self) -> None:
        self._has_asked = True
        system = same_machine
        try:
            slot = system.take_slot()
            readable = system.is_readable(slot.address, len(self._own))
        except OSError:
            return
        if not readable:  # not even by itself: a sandbox
            system.give_back(slot)
            return
        slot.put(self._own)
        self._slot = slot
        self._waits_for_answer = True
        self._write(control(PLACE, os.getpid(), slot.address))

    def revoke(self) -> None:
        """Let go of all lent frames: the connection has ended."""
        self._revoked = True
        slot, self._slot = self._slot, None
        if slot is not None:
            same_machine.give_back(slot)  # before the frames: the other end must not believe what it reads from now on
        self._lent.clear()
        self._lent_bytes = 0
        self.when_answered = None  # the callback refers to packets
        self.let_go_on()

    def let_go_on(self) -> None:
        """Let senders that wait for `drain` go on."""
        drain, self.drain = self.drain, None
        if drain is not None and not drain.done():
            drain.set_result(None)

    def _take_back(self, count: int) -> None:
        for _ in range(count):
            self._lent_bytes -= len(self._lent.popleft())
        if self._lent_bytes <= LOW_WATER:
            self.let_go_on()

    # -- taking

    @property
    def progress(self) -> int:
        """Number of bytes that threads have read of the packet under way."""
        return 0 if self._reading is None else self._reading.done_bytes

    def take(
        self, frames: list[Frame], lengths: list[int], deliver: Callable[[list[Frame]], object]
    ) -> list[Frame] | None:
        """The frames of a packet, with lent ones read into memory of their own; None while threads still read them.

        Args:
            deliver: called with the frames on the loop once threads have read them; has to call `confirm` first.

        Raises:
            PacketError: the other end has not proved itself, or the memory cannot be read.
            MemoryError: a frame is larger than what the system gives.
            CommClosedError: the lender does not hold the frames any more.
        """
        if self._source is None:
            raise PacketError("a reference to memory, though none was asked for")
        pid, total = self._source[0], 0
        parts: list[tuple[int, memoryview]] = []
        for place, length in enumerate(lengths):
            if length & REFERENCE:
                if length & COMPRESSED:
                    raise PacketError("a reference to something compressed")
                target = allocate(length & LENGTH)
                parts.append((_address.unpack(frames[place])[0], target))
                frames[place] = target
                total += len(target)
        if total > AT_ONCE_BYTES:
            loop = asyncio.get_running_loop()
            self._reading = Reading(pid, parts, lambda: loop.call_soon_threadsafe(deliver, frames))
            self._reading.start()
            return None
        failure: OSError | None = None
        try:
            same_machine.read_memory(pid, parts)
        except OSError as error:
            failure = error
        self._confirm(failure, len(parts))
        return frames

    def confirm(self, wanted: bool = True) -> None:
        """Check what threads have read, unless nobody wants it, and give the lender its frames back.

        Raises:
            PacketError, CommClosedError: as for `take`.
        """
        reading, self._reading = self._reading, None
        assert reading is not None
        if wanted:
            self._confirm(reading.error, reading.count)
        else:
            self._note_taken(reading.count)

    def refuse(self, lengths: list[int]) -> None:
        """Give the lender the frames of a packet back without reading them."""
        if count := sum(1 for length in lengths if length & REFERENCE):
            self._note_taken(count)

    def stop_reading(self) -> None:
        """Have threads read no further: nobody wants their packet any more."""
        if self._reading is not None:
            self._reading.stop()

    def _confirm(self, failure: Exception | None, count: int) -> None:
        if not self._peer_holds():
            raise CommClosedError(f"{self._peer_name} closed the connection in the middle of a message") from failure
        if failure is not None:
            raise PacketError(f"a reference to memory that cannot be read: {failure}") from failure
        self._note_taken(count)

    def say_taken(self) -> None:
        """Tell the lender how many frames it may have back."""
        count, self._taken = self._taken, 0
        if count and not self._revoked:
            self._write(control(TAKEN, count))

    def _note_taken(self, count: int) -> None:
        # At the end of this turn, to be sent with a reply that is written meanwhile: a write costs as much as reading
        # 100 kB.
        if not self._taken:
            asyncio.get_running_loop().call_soon(self.say_taken)
        self._taken += count

    def _peer_holds(self) -> bool:
        """Whether the other end shows its proof now."""
        assert self._source is not None
        shown = bytearray(len(self._expected))
        try:
            same_machine.read_memory(self._source[0], [(self._source[1], shown)])
        except OSError:
            return False
        return shown == self._expected


class Reading:
    """Threads that read the frames of one packet from the memory of another process.

    Args:
        pid: the other process.
        parts: addresses there, and the memory to fill from each.
        when_done: called once, in one of the threads.

    Attributes:
        count: number of parts.
        done_bytes: bytes read so far.
        error: why not all was read; None if it was.
    """

    def __init__(self, pid: int, parts: list[tuple[int, memoryview]], when_done: Callable[[], object]) -> None:
        self.count = len(parts)
        self.done_bytes = 0
        self.error: Exception | None = None
        self._pid = pid
        self._parts = parts
        self._when_done = when_done
        self._pieces: deque[list[tuple[int, memoryview]]] = deque()
        self._running = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the threads, which end by themselves when all is read."""
        parts, self._parts = self._parts, []
        total = sum(len(target) for _, target in parts)
        turns = -(-total // (THREADS * PIECE_BYTES))
        self._pieces.extend(cut(parts, -(-total // (THREADS * turns))))
        self._running = THREADS
        for _ in range(THREADS):
            try:
                threading.Thread(target=self._run, name="Headrace-Memory", daemon=True).start()
            except RuntimeError:  # no more threads
                self._run()

    def stop(self) -> None:
        """Read no further."""
        self._pieces.clear()

    def _run(self) -> None:
        read_memory = same_machine.read_memory
        while True:
            try:
                piece = self._pieces.popleft()
            except IndexError:
                break
            try:
                read_memory(self._pid, piece)
            except Exception as error:  # whatever it is, the loop has to be told of the end
                self.error = error
                self._pieces.clear()
            with self._lock:
                self.done_bytes += sum(len(target) for _, target in piece)
            del piece  # this thread must not keep the memory longer than the packet's receiver does
        with self._lock:
            self._running -= 1
            last = not self._running
        if last:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._when_done()


def cut(parts: list[tuple[int, memoryview]], nbytes: int) -> list[list[tuple[int, memoryview]]]:
    """Cut ranges, in their order, into pieces of `nbytes`, rounded up to whole pages."""
    nbytes = -(-nbytes // 4096) * 4096
    pieces: list[list[tuple[int, memoryview]]] = [[]]
    room = nbytes
    for address, target in parts:
        start = 0
        while start < len(target):
            if not room:
                pieces.append([])
                room = nbytes
            size = min(room, len(target) - start)
            pieces[-1].append((address + start, target[start : start + size]))
            start, room = start + size, room - size
    return pieces
