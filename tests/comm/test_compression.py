"""Compression of frames: off by default, on when both ends want it."""

from __future__ import annotations

import os
from typing import Any

import dask.config
import pytest

from headrace.protocol import Frames
from headrace.protocol.compression import (
    MIN_BYTES,
    MOST_BYTES_EACH,
    Compressor,
    choose_compression,
    offered_compression,
)
from tests.comm.transports import Transport, free_frames

REPETITIVE = b"abcdefgh" * 50_000


@pytest.mark.parametrize("name", ["lz4", "zstd", "auto"])
async def test_frames_travel_compressed(name: str) -> None:
    random = os.urandom(300_000)
    with dask.config.set({"distributed.comm.compression": name}):
        async with Transport("tcp").pair() as (near, far):
            written: list[int] = []
            write: Any = near._write_buffers  # type: ignore[attr-defined]

            def count(buffers: list[Any]) -> None:
                written.append(sum(map(len, buffers)))
                write(buffers)

            near._write_buffers = count  # type: ignore[attr-defined]
            await near.write({"x": Frames([REPETITIVE, random]), "text": "a" * 100_000})
            message = await far.read()
            assert [bytes(frame) for frame in message["x"].frames] == [REPETITIVE, random]
            assert message["text"] == "a" * 100_000
            assert 300_000 < sum(written) < 350_000
            message["x"].frames[0][0] = 1  # writable


@pytest.mark.parametrize("name", ["lz4", "zstd"])
async def test_many_frames_that_shrink_to_nearly_nothing_arrive(name: str) -> None:
    few, many = [bytes(MIN_BYTES)] * 10, [bytes(MIN_BYTES)] * 100
    with dask.config.set({"distributed.comm.compression": name}), free_frames(20):
        async with Transport("tcp").pair() as (near, far):
            for frames in (many, few):
                near.send({"x": Frames(list(frames))})
                message = await far.read()
                assert message["x"].frames == frames


@pytest.mark.parametrize("name", ["lz4", "zstd"])
def test_malformed_compressed_frames(name: str) -> None:
    compressor = Compressor(name)
    (frame,), flags = compressor.compress_frames([REPETITIVE])
    assert flags
    assert compressor.decompress(frame, 10**9) == REPETITIVE
    for wrong in (b"", b"123", b"\xff" * 20, bytes(8) + frame[8:], frame[:8] + b"garbage", frame[:-10]):
        with pytest.raises(ValueError, match="compressed"):
            compressor.decompress(wrong, 10**9)
    with pytest.raises(ValueError, match="claims"):
        compressor.decompress(frame, 1000)


def test_small_and_random_frames_go_as_they_are() -> None:
    frames = [b"a" * 100, os.urandom(50_000), os.urandom(500_000)]
    assert Compressor("lz4").compress_frames(list(frames)) == (frames, None)


def test_offers() -> None:
    assert offered_compression(None) is offered_compression(False) is None
    assert offered_compression("zstd") == "zstd"
    assert offered_compression("auto") == "lz4,zstd"
    with pytest.raises(ValueError, match=r"'brotli'.*lz4, zstd"):
        offered_compression("brotli")
    assert choose_compression("lz4,zstd", "zstd") == "zstd"
    assert choose_compression("lz4", "zstd") is None
    assert choose_compression(None, "zstd") is None
    assert choose_compression("lz4", None) is None


@pytest.mark.parametrize("name", ["lz4", "zstd"])
def test_few_bytes_do_not_become_very_many(name: str) -> None:
    """However well something shrinks, what stands for it is so long that its receiver is not surprised."""
    compressor = Compressor(name)
    (frame,), flags = compressor.compress_frames([bytes(10_000_000)])
    assert flags
    assert len(frame) * MOST_BYTES_EACH >= 10_000_000
    assert compressor.decompress(frame, 10**9) == bytes(10_000_000)
    assert compressor.decompress_whole(compressor.compress_whole(bytes(10_000_000))) == bytes(10_000_000)
    with pytest.raises(ValueError, match="claims"):
        compressor.decompress((10_000_000).to_bytes(8, "little") + bytes(10_000), 10**9)
