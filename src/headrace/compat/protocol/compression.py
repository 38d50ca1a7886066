"""The public functions that compress single frames, and the registry of what they can use.

Connections compress by themselves (`compression`); this is for users who serialize on their own.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from headrace.protocol.compression import MODULES, Compressor, brought, installed
from headrace.protocol.frames import Frame

#: Bytes of the longest frame that all of them take.
_LONGEST = 2**31 - 2**26


class Compression(NamedTuple):
    """One way to compress.

    Attributes:
        name: by which frames say how they are compressed; None for "not at all".
        compress, decompress: from bytes to bytes.
    """

    name: str | None
    compress: Callable[[Any], Any]
    decompress: Callable[[Any], Any]


def _same(data: Frame) -> Frame:
    return data


class Compressions(dict[str | bool | None, Compression]):
    """What frames can be compressed with, by name. What a user adds can be named in the configuration, too."""

    def __setitem__(self, name: str | bool | None, compression: Compression) -> None:
        super().__setitem__(name, compression)
        if isinstance(name, str):
            brought[name] = compression.compress, compression.decompress

    def __delitem__(self, name: str | bool | None) -> None:
        super().__delitem__(name)
        if isinstance(name, str):
            brought.pop(name, None)


def _available() -> Compressions:
    """The compressions that are installed, by name; "auto" is the first of lz4 and zstd."""
    none = Compression(None, _same, _same)
    found: dict[str | bool | None, Compression] = {None: none, False: none, "auto": none}
    found["zlib"] = Compression("zlib", zlib.compress, zlib.decompress)
    for name in reversed(MODULES):
        if installed(name):
            tool = Compressor(name)
            found[name] = found["auto"] = Compression(name, tool.compress_whole, tool.decompress_whole)
    return Compressions(found)


#: Registry of what frames can be compressed with; a user may add to it.
compressions = _available()


def get_compression_settings(key: str) -> str | None:
    """The name of the compression that the configuration has under a key, with "auto" resolved.

    Raises:
        ValueError: it is unknown, or not installed.
    """
    from headrace import config

    name = config.get(key)
    if name not in compressions:
        known = [repr(one) for one in compressions if one and one != "auto"]
        raise ValueError(
            f"Invalid compression setting {key}={name}. Expecting one of: null, auto, {', '.join(known)}; "
            "others need their package to be installed"
        )
    return compressions[name].name


def byte_sample(b: memoryview, size: int, n: int) -> memoryview:
    """`n` pieces of `size` bytes each from evenly spaced places of a buffer (less if it has less)."""
    if b.nbytes <= size * n:
        return b
    step = (b.nbytes - size) / max(n - 1, 1)
    return memoryview(b"".join([b[start : start + size] for start in (int(step * place) for place in range(n))]))


def maybe_compress(
    payload: Frame,
    *,
    min_size: int = 10_000,
    sample_size: int = 10_000,
    nsamples: int = 5,
    min_ratio: float = 0.7,
    compression: str | bool | None = "auto",
) -> tuple[str | None, Frame]:
    """Compress a frame if it is long enough, and a sample and the whole of it become short enough.

    Args:
        payload: the frame.
        min_size: bytes from which on it is tried.
        sample_size, nsamples: bytes and number of the pieces that are tried first.
        min_ratio: compressed over uncompressed size up to which it is worth it.
        compression: name of one of `compressions`; None or False for none.

    Returns:
        The name of the compression used, or None, and what is to be sent.

    Raises:
        ValueError: an unknown compression.
    """
    if compression not in compressions:
        raise ValueError(f"no compression {compression!r} here; there are {[one for one in compressions if one]}")
    name, compress, _ = compressions[compression]
    view = memoryview(payload)
    if not name or view.nbytes < min_size or view.nbytes > _LONGEST:
        return None, payload
    view = view.cast("B")
    sample = byte_sample(view, sample_size, nsamples)
    if len(compress(sample)) > min_ratio * sample.nbytes:
        return None, payload
    compressed = compress(view)
    return (name, compressed) if len(compressed) <= min_ratio * view.nbytes else (None, payload)


def decompress(header: dict[str, Any], frames: Iterable[Frame]) -> list[Frame]:
    """Frames as they were before `maybe_compress`; `header["compression"]` has a name or None for each."""
    frames = list(frames)
    names = header.get("compression") or (None,) * len(frames)
    return [compressions[name].decompress(frame) for name, frame in zip(names, frames, strict=True)]
