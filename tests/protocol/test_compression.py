"""Compressions that are always there, and those that users bring."""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Iterator

import dask
import pytest

from headrace.compat.protocol.compression import Compression, compressions, get_compression_settings
from headrace.protocol.compression import MOST_BYTES_EACH, Compressor, offered_compression

TEXT = b"headrace " * 20_000


@pytest.fixture
def with_bz2() -> Iterator[None]:
    compressions["bz2"] = Compression("bz2", bz2.compress, bz2.decompress)
    yield
    del compressions["bz2"]


def test_zlib_is_always_there() -> None:
    assert offered_compression("zlib") == "zlib"
    frames, flags = Compressor("zlib").compress_frames([b"short", TEXT, bytes(range(256)) * 4])
    assert flags is not None
    assert [bool(flag) for flag in flags] == [False, True, False]
    assert bytes(Compressor("zlib").decompress(frames[1], len(TEXT))) == TEXT


def test_zlib_makes_no_more_than_was_said() -> None:
    lie = (1000).to_bytes(8, "little") + zlib.compress(TEXT)
    with pytest.raises(ValueError, match="another length"):
        Compressor("zlib").decompress(lie, 10**9)
    short = (len(TEXT) + 1).to_bytes(8, "little") + zlib.compress(TEXT) + bytes(10_000)
    with pytest.raises(ValueError, match="instead of"):
        Compressor("zlib").decompress(short, 10**9)


def test_zeros_are_believed() -> None:
    zeros = bytes(10_000_000)
    (frame,), flags = Compressor("zlib").compress_frames([zeros])
    assert flags
    assert len(frame) <= len(zeros) / MOST_BYTES_EACH + 8
    assert bytes(Compressor("zlib").decompress(frame, len(zeros))) == zeros


def test_what_a_user_brings(with_bz2: None) -> None:
    assert offered_compression("bz2") == "bz2"
    with dask.config.set({"distributed.comm.compression": "bz2"}):
        assert get_compression_settings("distributed.comm.compression") == "bz2"
    text = bytes(range(256)) * 500
    (frame,), flags = Compressor("bz2").compress_frames([text])
    assert flags
    assert bytes(Compressor("bz2").decompress(frame, len(text))) == text
    zeros = bytes(10_000_000)  # more than a receiver believes of so few bytes
    assert Compressor("bz2").compress_frames([zeros]) == ([zeros], None)


def test_unknown_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="null, auto, lz4, zstd, zlib"):
        offered_compression("bz2")
