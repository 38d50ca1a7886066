"""Optional compression of frames, agreed on in the handshake: off unless the configuration asks for it.

A frame is only compressed when it is long enough and a sample of it shrinks; the pieces are `u64 size, compressed`.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from .frames import Frame

#: Shorter frames go as they are.
MIN_BYTES = 10_000
#: What is compressed to see whether it is worth it: so many pieces of so many bytes.
_SAMPLES, _SAMPLE_BYTES = 5, 10_000
#: Compressed size over size above which a frame goes as it is.
_WORTH = 0.9
#: Bytes that each compressed byte may stand for, at most: as much as lz4 can do. What zstd shrinks more is filled up
#: with zeros, which it ignores, so that a few bytes from a stranger cannot take much memory.
MOST_BYTES_EACH = 256
_FLAG = 1 << 63
_size = struct.Struct("<Q")
MODULES = {"lz4": "lz4.block", "zstd": "zstandard"}
#: What users have brought: by name, two functions from bytes to bytes. Both ends of a connection must have it.
brought: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}


def choose_compression(own: str | None, peer: object) -> str | None:
    """The compression that both ends want: the same on both, or what one names and the other leaves to choice.

    Args:
        own, peer: what the handshakes say: a list of names in order of preference joined by ",", or `None`.
    """
    if not own or not isinstance(peer, str):
        return None
    others = peer.split(",")
    return next((name for name in own.split(",") if name in others), None)


def offered_compression(configured: str | bool | None) -> str | None:
    """The offer in the handshake for a configured value: "auto" offers all that are installed.

    Raises:
        ValueError: an unknown name, or its package is not installed.
    """
    if configured is None or configured is False:
        return None
    if configured == "auto" or configured is True:
        return ",".join([name for name in MODULES if installed(name)]) or None
    if configured == "zlib" or configured in brought:
        return str(configured)
    if configured not in MODULES:
        known = ", ".join([*MODULES, "zlib", *brought])
        raise ValueError(f"distributed.comm.compression is {configured!r}; it can be null, auto, {known}")
    if not installed(configured):
        raise ValueError(
            f"distributed.comm.compression is {configured!r}, but the package "
            f"{MODULES[configured].partition('.')[0]} is not installed"
        )
    return configured


class Compressor:
    """Compresses and decompresses frames with one algorithm.

    Args:
        name: "lz4", "zstd", "zlib", or what a user has brought.
        level, threads: of zstd; `distributed.comm.zstd` by default. 0 threads means none beside the caller's, and -1
            one for each processor.
    """

    def __init__(self, name: str, level: int | None = None, threads: int | None = None) -> None:
        self.name = name
        self._compress: Callable[[Any], bytes]
        self._decompress: Callable[[Any, int], Any]
        #: whether what is compressed more than a receiver believes can be filled up
        self._filled_up = name not in brought
        if name in brought:
            self._compress, decompress = brought[name]
            self._decompress = lambda data, size: decompress(data)
        elif name == "zlib":
            import zlib

            self._compress = zlib.compress
            self._decompress = _decompress_zlib
        elif name == "lz4":
            import lz4.block

            self._compress = lambda data: bytes(lz4.block.compress(data, store_size=False))
            self._decompress = partial(lz4.block.decompress, return_bytearray=True)
        else:
            import zstandard

            from headrace import config

            level = int(config.get("distributed.comm.zstd.level") if level is None else level)
            threads = int(config.get("distributed.comm.zstd.threads") if threads is None else threads)
            self._compress = zstandard.ZstdCompressor(level=level, threads=threads).compress
            self._decompress = partial(_decompress_zstd, zstandard)

    def compress_frames(self, frames: list[Frame]) -> tuple[list[Frame], list[int] | None]:
        """Frames as they should travel, and a flag for each (`None` if all go as they are)."""
        if max(map(len, frames)) < MIN_BYTES:
            return frames, None
        result, flags = list(frames), [0] * len(frames)
        for position, frame in enumerate(frames):
            if len(frame) < MIN_BYTES or not self._promising(frame):
                continue
            compressed = self._compress(frame)
            if not self._filled_up and len(compressed) * MOST_BYTES_EACH < len(frame):
                continue
            if len(compressed) < _WORTH * len(frame):
                result[position] = _with_size(len(frame), compressed)
                flags[position] = _FLAG
        return (result, flags) if any(flags) else (frames, None)

    def decompress(self, frame: Frame, limit: int) -> Frame:
        """The frame as it was, in writable memory, of which no more is taken than its length.

        Raises:
            ValueError: malformed, or longer than `limit`.
        """
        if len(frame) < _size.size:
            raise ValueError("malformed compressed frame")
        (size,) = _size.unpack_from(frame)
        if size > limit or size > MOST_BYTES_EACH * len(frame):
            raise ValueError(f"a compressed frame claims to be {size} bytes long")
        try:
            data = self._decompress(memoryview(frame)[_size.size :], size)
        except Exception as error:
            raise ValueError(f"malformed compressed frame: {error}") from error
        if len(data) != size:
            raise ValueError(f"a compressed frame has {len(data)} bytes instead of {size}")
        return memoryview(data)

    def compress_whole(self, data: Frame) -> bytes:
        """Compressed, with what `decompress_whole` needs to know."""
        return _with_size(memoryview(data).nbytes, self._compress(data))

    def decompress_whole(self, data: Frame) -> Frame:
        """Undo `compress_whole`."""
        return self.decompress(data, 2**40)

    def _promising(self, frame: Frame) -> bool:
        if len(frame) <= 2 * _SAMPLES * _SAMPLE_BYTES:
            return True
        view = memoryview(frame)
        step = len(frame) // _SAMPLES
        sample = b"".join([view[start : start + _SAMPLE_BYTES] for start in range(0, step * _SAMPLES, step)])
        return len(self._compress(sample)) < _WORTH * len(sample)


def _with_size(nbytes: int, compressed: bytes) -> bytes:
    return _size.pack(nbytes) + compressed + bytes(max(0, nbytes // MOST_BYTES_EACH - len(compressed)))


def _decompress_zlib(data: Frame, size: int) -> bytearray:
    import zlib

    reader = zlib.decompressobj()
    whole = bytearray(reader.decompress(data, size))  # no more than was said; the end may be padded (`_with_size`)
    if not reader.eof and reader.decompress(reader.unconsumed_tail, 1):
        raise ValueError("another length than was said")
    return whole


def _decompress_zstd(zstandard: ModuleType, data: Frame, size: int) -> bytearray:
    """Straight into writable memory: zstandard's own result would have to be copied there."""
    memory = bytearray(size)
    with zstandard.ZstdDecompressor().stream_reader(data) as reader, memoryview(memory) as rest:
        done = 0
        while done < size and (count := reader.readinto(rest[done:])):
            done += count
    # More than that is not asked for: the frame's end may be padded (`_with_size`).
    if done < size or zstandard.get_frame_parameters(data).content_size not in (size, zstandard.CONTENTSIZE_UNKNOWN):
        raise ValueError("another length than was said")
    return memory


def installed(name: str) -> bool:
    """Whether the package of a compression is installed."""
    return importlib.util.find_spec(MODULES[name].partition(".")[0]) is not None
