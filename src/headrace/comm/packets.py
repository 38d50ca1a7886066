"""Packets on a byte stream: `u32 count, u64 length of each frame, frames`, after an opening of magic bytes.

No sockets: `PacketReader` hands out the memory to read into and is told how many bytes came. Large frames are read
straight into memory of their own, which is then the receiver's: no joins, no copies. The reader checks limits before it
takes memory, and touches memory only as bytes arrive, so that a peer that announces much costs nothing. Many small
frames cost much more than their bytes; so beyond some number a packet must have a number of bytes for each frame.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from typing import NoReturn

from headrace.protocol.frames import Frame

from .frame_memory import allocate, discard

#: Bytes of one read, at most, while no large frame is under way.
SCRATCH_BYTES = 512 * 1024
#: A packet no longer than this is parsed again from its start when more of it has come, instead of frame by frame.
SMALL_PACKET_BYTES = 64 * 1024
#: A frame from this size on gets its memory only once `SMALL_PACKET_BYTES` of it have come: the memory may come in huge
#: pages, of which the first byte takes a whole one.
HUGE_PAGE_BYTES = 2 << 20
#: Frames in a packet, at most.
MAX_FRAMES = 1 << 20
#: Frames in a packet that may be of any size; a packet with more must have so many bytes for each of the others.
FREE_FRAMES = 1 << 15
BYTES_PER_FRAME = 4096
#: Longest frame by default (`distributed.comm.max-frame-bytes`).
MAX_FRAME_BYTES = 64 << 30
#: Set in the length of a frame that is compressed.
COMPRESSED = 1 << 63
#: Set in the length of a frame that the receiver reads from the sender's memory; the packet has its address instead.
REFERENCE = 1 << 62
#: Set in the length of the only frame of a control packet between the connection's ends (see `memory_link`).
CONTROL = 1 << 61
#: Lengths from `FLAGGED` on have one of these flags; `LENGTH` masks the flags out.
FLAGGED = CONTROL
LENGTH = FLAGGED - 1
#: Bytes of an address in a frame's place.
ADDRESS_BYTES = 8
#: Frames shorter than this are joined before writing, which costs less than a longer list of buffers.
_JOINED_BYTES = 16 * 1024

_count = struct.Struct("<I")
_head_of_one = struct.Struct("<IQ")


class PacketError(Exception):
    """The stream does not hold a packet where one should begin; the connection cannot go on."""


class FrameLimitError(PacketError):
    """The other side announces a frame that is longer than this side accepts."""


def too_many(count: int, nbytes: int) -> bool:
    """Whether a packet has too many frames for the number of bytes in all of them together."""
    return count > FREE_FRAMES and (count > MAX_FRAMES or nbytes < (count - FREE_FRAMES) * BYTES_PER_FRAME)


class _Scratch(threading.local):
    """Memory to read into, shared by the connections of a thread: filled and emptied within one callback of a loop."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(SCRATCH_BYTES))


_scratch = _Scratch()


def header(frames: list[Frame], lengths: list[int] | None = None) -> bytes:
    """The beginning of a packet, before its frames.

    Args:
        lengths: of each frame, with flags; by default the frames' own lengths.
    """
    if lengths is None:
        if len(frames) == 1:
            return _head_of_one.pack(1, len(frames[0]))
        lengths = [len(frame) for frame in frames]
    return struct.pack(f"<I{len(frames)}Q", len(frames), *lengths)


def buffers_to_write(frames: list[Frame], lengths: list[int] | None = None) -> list[Frame]:
    """A packet as few buffers: neighbouring small frames are joined, large ones stay alone. `lengths`: see `header`."""
    head = header(frames, lengths)
    if len(frames) == 1:
        frame = frames[0]
        return [head + frame] if len(frame) < _JOINED_BYTES else [head, frame]
    buffers: list[Frame] = []
    small: list[Frame] = [head]
    for frame in frames:
        if len(frame) < _JOINED_BYTES:
            small.append(frame)
            continue
        if small:
            buffers.append(b"".join(small))
            small = []
        buffers.append(frame)
    if small:
        buffers.append(b"".join(small))
    return buffers


def _drop(frames: list[Frame], lengths: list[int] | None) -> None:
    """Drop a packet: its receiver is gone."""


class PacketReader:
    """Cuts a byte stream into packets.

    Args:
        on_packet: called with the frames of each packet and, if any frame has a flag, the lengths and flags of all.
            Without flags, the first frame of a packet may lie in memory that the reader uses again once the callback
            has returned; all others are the receiver's own.
        max_frame_bytes: longest frame that is accepted.
    """

    __slots__ = (
        "_filled",
        "_frames",
        "_held",
        "_lengths",
        "_on_packet",
        "_rest",
        "_scratch_start",
        "_target",
        "_window",
        "max_frame_bytes",
        "stopped",
    )

    def __init__(
        self, on_packet: Callable[[list[Frame], list[int] | None], None], max_frame_bytes: int = MAX_FRAME_BYTES
    ) -> None:
        self._on_packet = on_packet
        self.max_frame_bytes = max_frame_bytes
        #: the beginning of a small packet, to be parsed again when more has come
        self._rest = b""
        self._scratch_start = 0
        #: bytes that the next read may take into the scratch memory
        self._window = SCRATCH_BYTES
        #: lengths and finished frames of the packet under way
        self._lengths: list[int] = []
        self._frames: list[Frame] = []
        #: memory of the frame under way, and how much of it has come
        self._target: memoryview | None = None
        self._filled = 0
        #: set by the owner, possibly from within `on_packet`, to have the remaining bytes ignored
        self.stopped = False
        #: whether bytes that come while the reader is stopped are kept for `resume`
        self._held = False

    @property
    def idle(self) -> bool:
        """Whether the stream stands between two packets."""
        return not self._rest and not self._lengths and self._target is None

    @property
    def position(self) -> tuple[int, int, int]:
        """A value that changes with each byte that comes of the packet under way."""
        return len(self._rest), len(self._frames), self._filled

    def get_buffer(self) -> memoryview:
        """Memory to read into next. Call `buffer_updated` before any other reader of this thread gets its turn."""
        if self._target is not None:
            return self._target[self._filled :]
        view = _scratch.view
        start = self._scratch_start = len(self._rest)
        if start:
            view[:start] = self._rest
        elif self._window == SCRATCH_BYTES:
            return view
        return view[start : start + self._window]

    def buffer_updated(self, nbytes: int) -> None:
        """Take note that `nbytes` came into the buffer that `get_buffer` returned last.

        Raises:
            PacketError: the stream is malformed.
            MemoryError: a frame is larger than what the system gives.
        """
        target = self._target
        if target is None:
            self._rest = b""
            self._window = SCRATCH_BYTES
            self._parse(_scratch.view, self._scratch_start + nbytes)
            return
        self._filled += nbytes
        if self._filled == len(target):
            self._target = None
            if self._lengths:
                self._frames.append(target)
            else:
                self._begin_packet(struct.unpack(f"<{len(target) // 8}Q", target))
            self._take_frames(target, 0, 0)  # nothing is left to take but empty frames

    def close(self) -> None:
        """Drop the packet under way, its memory and the callback: no more bytes will come."""
        self.stopped, self._held = True, False
        if self._target is not None:
            discard(self._target)
        self._rest, self._lengths, self._frames, self._target = b"", [], [], None
        self._on_packet = _drop

    @property
    def held(self) -> bool:
        """Whether the reader waits for `resume`."""
        return self._held

    def hold(self) -> None:
        """Deliver no packets until `resume`. The owner must not read more than went into the last buffer."""
        self.stopped = self._held = True

    def resume(self) -> None:
        """Deliver the packets that came meanwhile, until the reader is held again.

        Raises:
            PacketError, MemoryError: as for `buffer_updated`.
        """
        self.stopped = self._held = False
        rest, self._rest = self._rest, b""
        if rest:
            self._parse(memoryview(rest), len(rest))

    def _parse(self, view: memoryview, end: int) -> None:
        position = 0
        while not self.stopped:
            if self._lengths:
                position = self._take_frames(view, position, end)
                if self._target is not None or position == end:
                    return
                if self._lengths:  # too little of a frame has come: it is parsed again with the next bytes
                    break
                continue
            left = end - position
            if left < 4:
                break
            (count,) = _count.unpack_from(view, position)
            if not 0 < count <= MAX_FRAMES:
                raise PacketError(f"a packet of {count} frames (the limit is {MAX_FRAMES})")
            head = 4 + 8 * count
            if left < head:
                if head <= SMALL_PACKET_BYTES:
                    break
                self._begin_target(8 * count, view[position + 4 : end])
                return
            if count == 1:  # nearly all packets
                (length,) = struct.unpack_from("<Q", view, position + 4)
                if length <= left - head and length <= self.max_frame_bytes:
                    start = position + head
                    position = start + length
                    self._on_packet([view[start:position]], None)
                    continue
                lengths: tuple[int, ...] = (length,)
            else:
                lengths = struct.unpack_from(f"<{count}Q", view, position + 4)
            total = self._check(lengths)
            if total > left - head and total <= SMALL_PACKET_BYTES - head:
                break
            self._lengths = list(lengths)
            position += head
        if self.stopped and not self._held:
            return
        self._rest = bytes(view[position:end])

    def _check(self, lengths: tuple[int, ...]) -> int:
        """Refuse lengths over the limits; returns the bytes of all frames together in the stream."""
        if too_many(len(lengths), sum(lengths)):  # without looking at each of a million
            self._refuse_count(len(lengths), sum(lengths))
        total = 0
        for length in lengths:
            size = length & LENGTH
            if size > self.max_frame_bytes:
                raise FrameLimitError(
                    f"a frame of {size} bytes is announced; the limit is {self.max_frame_bytes} "
                    "(distributed.comm.max-frame-bytes)"
                )
            total += ADDRESS_BYTES if length & REFERENCE else size
        if too_many(len(lengths), total):
            self._refuse_count(len(lengths), total)
        return total

    @staticmethod
    def _refuse_count(count: int, nbytes: int) -> NoReturn:
        raise PacketError(
            f"a packet of {count} frames with {nbytes} bytes in all (those beyond {FREE_FRAMES} must have "
            f"{BYTES_PER_FRAME} bytes each)"
        )

    def _begin_packet(self, lengths: tuple[int, ...]) -> None:
        self._check(lengths)
        self._lengths = list(lengths)

    def _begin_target(self, nbytes: int, first: memoryview) -> None:
        target = self._target = allocate(nbytes)
        self._filled = len(first)
        target[: self._filled] = first

    def _take_frames(self, view: memoryview, position: int, end: int) -> int:
        """Take frames of the packet under way out of the scratch memory; returns the position behind them."""
        frames, lengths = self._frames, self._lengths
        while len(frames) < len(lengths):
            length = lengths[len(frames)]
            size = length if length < FLAGGED else ADDRESS_BYTES if length & REFERENCE else length & LENGTH
            stop = position + size
            if stop > end:
                if size < SMALL_PACKET_BYTES:  # the rest may come together with the frames behind it
                    return position
                if size >= HUGE_PAGE_BYTES and end - position < SMALL_PACKET_BYTES:
                    self._window = SMALL_PACKET_BYTES
                    return position
                self._begin_target(size, view[position:end])
                return end
            frames.append(memoryview(bytearray(view[position:stop])))
            position = stop
        self._finish()
        return position

    def _finish(self) -> None:
        frames, lengths = self._frames, self._lengths
        self._frames, self._lengths = [], []
        self._on_packet(frames, lengths if max(lengths) >= FLAGGED else None)
