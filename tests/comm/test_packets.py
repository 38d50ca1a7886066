"""The cutting of byte streams into packets, without sockets."""

from __future__ import annotations

import mmap
import struct
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.comm import frame_memory
from headrace.comm.packets import (
    ADDRESS_BYTES,
    BYTES_PER_FRAME,
    FREE_FRAMES,
    HUGE_PAGE_BYTES,
    MAX_FRAMES,
    REFERENCE,
    SCRATCH_BYTES,
    FrameLimitError,
    PacketError,
    PacketReader,
    buffers_to_write,
    too_many,
)


def packet(frames: list[bytes]) -> bytes:
    return b"".join(buffers_to_write(list(frames)))


def feed(reader: PacketReader, data: bytes, pieces: list[int]) -> None:
    """Give the reader its data in pieces of the given sizes, over and over."""
    position, turn = 0, 0
    while position < len(data):
        buffer = reader.get_buffer()
        assert len(buffer) > 0
        size = min(len(buffer), len(data) - position, pieces[turn % len(pieces)])
        buffer[:size] = data[position : position + size]
        reader.buffer_updated(size)
        position += size
        turn += 1


def read_all(data: bytes, pieces: list[int]) -> list[list[bytes]]:
    packets: list[list[bytes]] = []
    reader = PacketReader(lambda frames, flags: packets.append([bytes(frame) for frame in frames]))
    feed(reader, data, pieces)
    assert reader.idle
    return packets


sizes = st.one_of(st.integers(0, 50), st.sampled_from([16_383, 16_384, 65_536, 70_000, 200_000]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(sizes, min_size=1, max_size=5), max_size=6),
    st.lists(st.sampled_from([1, 3, 7, 100, 5_000, 66_000, 10**9]), min_size=1, max_size=4),
)
def test_any_pieces_give_the_same_packets(shape: list[list[int]], pieces: list[int]) -> None:
    packets = [[bytes([size % 251]) * size for size in frames] for frames in shape]
    data = b"".join(map(packet, packets))
    if len(data) > 10_000 and max(pieces) < 5_000:
        pieces = [*pieces, 5_000]  # or it takes long
    assert read_all(data, pieces) == packets


def test_more_frames_than_fit_into_one_read() -> None:
    frames = [b"%d" % number for number in range(20_000)]
    large = [bytes(100)] * 10_000
    assert read_all(packet(frames) + packet(large), [SCRATCH_BYTES]) == [frames, large]
    assert read_all(packet(frames), [70_000, 1, 13]) == [frames]


@pytest.mark.parametrize("sizes", [[65_536, 0], [70_000, 0, 0, 100_000, 0], [0] * 10_000, [0, 0], [0]])
def test_empty_frames_at_the_end_do_not_wait_for_more(sizes: list[int]) -> None:
    frames = [bytes(size) for size in sizes]
    for pieces in ([10**9], [60_000], [33]):
        assert read_all(packet(frames), pieces) == [frames]


def test_frames_survive_what_comes_after_them() -> None:
    """All but the first frame are the receiver's own memory."""
    kept = []
    reader = PacketReader(lambda frames, flags: kept.extend(frames[1:]))
    for number in range(5):
        feed(reader, packet([b"head", bytes([number]) * 100, bytes([number]) * 100_000]), [10**9])
    assert [bytes(frame[:1]) for frame in kept] == [bytes([number]) for number in range(5) for _ in range(2)]
    kept[0][0] = 1  # writable


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<I", 0),
        struct.pack("<I", MAX_FRAMES + 1),
        struct.pack("<IQ", 1, 2**60),
        struct.pack("<IQ", 1, 1001),
        struct.pack("<IQQ", 2, 1, 1001),
    ],
)
def test_limits(head: bytes) -> None:
    reader = PacketReader(lambda frames, flags: None, max_frame_bytes=1000)
    with pytest.raises(PacketError):
        feed(reader, head, [10**9])


def test_a_stopped_reader_ignores_the_rest() -> None:
    packets: list[bytes] = []

    def on_packet(frames: object, flags: object) -> None:
        packets.append(b"")
        reader.stopped = True

    reader = PacketReader(on_packet)
    feed(reader, packet([b"a"]) * 5, [10**9])
    assert len(packets) == 1


@pytest.mark.parametrize("pieces", [[10**9], [50_000], [5000, 1]])
def test_a_held_reader_goes_on_where_it_was(pieces: list[int]) -> None:
    """Each packet holds the reader up; what had come behind it is delivered by `resume`, one at a time."""
    packets = [[b"a"], [b"head", bytes(100_000)], [b"b", b""], [b"c" * 1000], [b"head", bytes(70_000), b"x"], [b"d"]]
    got: list[list[bytes]] = []

    def on_packet(frames: list[Any], lengths: object) -> None:
        got.append([bytes(frame) for frame in frames])
        reader.hold()

    reader = PacketReader(on_packet)
    data, position, turn = b"".join(map(packet, packets)), 0, 0
    while position < len(data):
        buffer = reader.get_buffer()
        size = min(len(buffer), len(data) - position, pieces[turn % len(pieces)])
        buffer[:size] = data[position : position + size]
        position, turn = position + size, turn + 1
        reader.buffer_updated(size)
        while reader.stopped:
            count = len(got)
            reader.resume()
            assert len(got) <= count + 1
    assert got == packets
    assert reader.idle


@pytest.mark.parametrize("pieces", [[10**9], [1], [20, 7]])
def test_references_take_eight_bytes(pieces: list[int]) -> None:
    address = bytes(range(ADDRESS_BYTES))
    lengths = [4, 50_000_000 | REFERENCE, 0, 1000 | REFERENCE]
    data = b"".join(buffers_to_write([b"head", address, b"", address], list(lengths)))
    got: list[Any] = []
    reader = PacketReader(lambda frames, said: got.append(([bytes(frame) for frame in frames], said)))
    feed(reader, data + packet([b"after"]), pieces)
    assert got == [([b"head", address, b"", address], lengths), ([b"after"], None)]


def test_what_is_referred_to_has_limits() -> None:
    reader = PacketReader(lambda frames, lengths: None, max_frame_bytes=1000)
    feed(reader, struct.pack("<IQ", 1, 1000 | REFERENCE) + bytes(8), [10**9])
    with pytest.raises(FrameLimitError):
        feed(reader, struct.pack("<IQ", 1, 1001 | REFERENCE) + bytes(8), [10**9])


def test_small_frames_are_joined_and_large_ones_are_not() -> None:
    large = bytes(100_000)
    buffers = buffers_to_write([b"head", b"x", large, b"y", b"z"])
    assert len(buffers) == 3
    assert buffers[1] is large
    assert len(buffers_to_write([b"head"])) == 1


def resident() -> int:
    """Bytes of memory that this process has touched."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(sys.platform != "linux", reason="what is resident is asked of Linux")
@pytest.mark.parametrize("came", [0, 1, 70_000])
@pytest.mark.parametrize("nbytes", [900_000, 7_900_000, 8_500_000])
def test_what_is_announced_takes_no_memory_until_it_comes(
    nbytes: int, came: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without numpy, which a scheduler has not loaded."""
    monkeypatch.delitem(sys.modules, "numpy", raising=False)
    frame_memory.drop_kept()
    before, readers = resident(), []
    for _ in range(100_000_000 // nbytes):
        reader = PacketReader(lambda frames, lengths: None)
        feed(reader, struct.pack("<IQ", 1, nbytes) + bytes(came), [10**9])
        reader.get_buffer()
        readers.append(reader)
    page = 0 if came < 65_536 or nbytes < HUGE_PAGE_BYTES else HUGE_PAGE_BYTES
    assert resident() - before < len(readers) * (page + 200_000) + 20_000_000


@pytest.mark.parametrize("size", [1, BYTES_PER_FRAME // 2])
def test_very_many_small_frames_are_refused_before_they_come(size: int) -> None:
    reader = PacketReader(lambda frames, lengths: None)
    with pytest.raises(PacketError, match="frames"):
        feed(reader, struct.pack("<I", 500_000) + struct.pack("<Q", size) * 500_000, [10**9])
    assert not reader._frames


def test_how_many_frames_are_too_many() -> None:
    assert not too_many(FREE_FRAMES, 0)
    assert too_many(FREE_FRAMES + 1, BYTES_PER_FRAME - 1)
    assert not too_many(FREE_FRAMES + 1, BYTES_PER_FRAME)
    assert too_many(MAX_FRAMES + 1, 1 << 60)
