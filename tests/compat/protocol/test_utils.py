"""Frames in one piece of memory and back."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.compat.comm.utils import ensure_concrete_host, from_frames, to_frames
from headrace.compat.protocol import cuda, cuda_deserialize, cuda_serialize
from headrace.compat.protocol.utils import (
    frame_split_size,
    host_array,
    host_array_from_buffers,
    merge_memoryviews,
    pack_frames,
    unpack_frames,
)
from headrace.compat.sizeof import safe_sizeof, sizeof
from headrace.protocol import Serialize, Serialized

FRAMES = [b"123", b"", b"45"]
MEMORY = memoryview(bytearray(range(12)))


def test_frames_are_packed_and_unpacked() -> None:
    packed = pack_frames(FRAMES)
    assert unpack_frames(packed) == FRAMES
    assert unpack_frames(packed + b"more", remainder=True) == (FRAMES, b"more")
    assert unpack_frames(packed[:-1], partial=True) == FRAMES[:2]
    assert unpack_frames(packed[:3], partial=True) == []
    for length in (3, 20, len(packed) - 1):
        with pytest.raises(ValueError, match="cut short"):
            unpack_frames(packed[:length])


def test_neighbours_are_merged_without_a_copy() -> None:
    merged = merge_memoryviews([MEMORY[2:2], MEMORY[2:4], MEMORY[4:9]])
    assert merged == MEMORY[2:9]
    assert merged.obj is MEMORY.obj
    assert merge_memoryviews([MEMORY[:4].cast("i"), MEMORY[4:8].cast("i")]).format == "i"
    assert merge_memoryviews([]).nbytes == 0


@pytest.mark.parametrize(
    ("views", "error"),
    [
        ([MEMORY[:3], MEMORY[4:5]], ValueError),
        ([MEMORY[3:4], MEMORY[:3]], ValueError),
        ([MEMORY[:1], memoryview(b"x")], ValueError),
        ([MEMORY[:4].cast("i"), MEMORY[4:8]], ValueError),
        ([MEMORY[::2], MEMORY[1:]], ValueError),
        ([b"a", MEMORY], TypeError),
    ],
)
def test_others_are_not_merged(views: list[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        merge_memoryviews(views)


def test_memory() -> None:
    assert [bytes(piece) for piece in frame_split_size(b"abcde", 2)] == [b"ab", b"cd", b"e"]
    assert [piece.nbytes for piece in frame_split_size(memoryview(bytearray(8)).cast("i"), 6)] == [4, 4]
    assert not host_array(3).readonly
    assert host_array_from_buffers([b"ab", MEMORY[:1]]) == b"ab\0"


async def test_messages_as_frames() -> None:
    frames = await to_frames({"op": "put", "data": Serialize([1, 2])})
    assert await from_frames(frames) == {"op": "put", "data": [1, 2]}
    assert type((await from_frames(frames, deserialize=False))["data"]) is Serialized
    with pytest.raises(TypeError, match="Could not serialize"):
        await to_frames(Serialize(lambda: 0), serializers=["msgpack"], on_error="raise")


async def test_large_messages_are_made_in_a_thread() -> None:
    text = "x" * 11_000_000
    assert await from_frames(await to_frames([text])) == [text]


def test_hosts() -> None:
    assert ensure_concrete_host("127.0.0.2") == "127.0.0.2"
    assert [ensure_concrete_host(host, "this") for host in ("", "0.0.0.0", "::")] == ["this"] * 3


class Sizeless:
    def __sizeof__(self) -> int:
        raise ValueError("no size")


def test_sizes() -> None:
    assert sizeof(Serialize(b"x" * 1000)) >= 1000
    assert safe_sizeof([1]) == sizeof([1])
    assert safe_sizeof(Sizeless()) == 1_000_000
    assert safe_sizeof(Sizeless(), 2) == 2


def test_the_registries_of_the_family_cuda() -> None:
    assert (cuda.cuda_serialize, cuda.cuda_deserialize) == (cuda_serialize, cuda_deserialize)
