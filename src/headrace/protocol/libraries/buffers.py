"""Plain buffers, which are a frame as they are. Pickling does as well; this is for families without pickle."""

from __future__ import annotations

import array
from collections.abc import Iterator
from typing import Any

from headrace.protocol.frames import Frame

from . import LibraryClass


def classes(toplevel: str) -> Iterator[LibraryClass]:
    """The classes of buffers that Python has."""
    if toplevel == "array":
        yield LibraryClass(array.array, dump_array_of_numbers, load_array_of_numbers)
        return
    yield LibraryClass(bytes, dump_bytes, load_bytes)
    yield LibraryClass(bytearray, dump_bytearray, load_bytearray)
    yield LibraryClass(memoryview, dump_memoryview, load_memoryview)


def _only(kind: type, value: object) -> None:
    if type(value) is not kind:
        raise NotImplementedError(f"a {type(value).__name__} may be more than {kind.__name__}")


def dump_bytes(value: bytes) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of bytes."""
    _only(bytes, value)
    return {}, [value]


def load_bytes(header: dict[str, Any], frames: list[Frame]) -> bytes:
    """The bytes in what `dump_bytes` returned."""
    return frames[0] if len(frames) == 1 and type(frames[0]) is bytes else b"".join(frames)


def dump_bytearray(value: bytearray) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of a bytearray."""
    _only(bytearray, value)
    return {}, [value]


def load_bytearray(header: dict[str, Any], frames: list[Frame]) -> bytearray:
    """The bytearray in what `dump_bytearray` returned."""
    return frames[0] if len(frames) == 1 and type(frames[0]) is bytearray else bytearray().join(frames)


def dump_memoryview(value: memoryview) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of a view; one with gaps is copied.

    Raises:
        NotImplementedError: it is a view of objects, or of what bytes cannot be seen as.
    """
    if value.format == "O":
        raise NotImplementedError("a view of objects")
    flat = value.cast("B") if value.c_contiguous and value.nbytes else memoryview(value.tobytes())
    return {"format": value.format, "shape": value.shape}, [flat]


def load_memoryview(header: dict[str, Any], frames: list[Frame]) -> memoryview:
    """The view in what `dump_memoryview` returned."""
    flat = memoryview(frames[0] if len(frames) == 1 else bytearray().join(frames)).cast("B")
    shape = list(header["shape"])
    if not flat.nbytes or (header["format"] == "B" and len(shape) == 1):
        return flat
    return flat.cast(header["format"], shape)


def dump_array_of_numbers(value: array.array[Any]) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of an `array.array`."""
    _only(array.array, value)
    return {"typecode": value.typecode}, [memoryview(value).cast("B") if value else b""]


def load_array_of_numbers(header: dict[str, Any], frames: list[Frame]) -> array.array[Any]:
    """The `array.array` in what `dump_array_of_numbers` returned."""
    made: array.array[Any] = array.array(header["typecode"])
    for frame in frames:
        made.frombytes(frame)
    return made
