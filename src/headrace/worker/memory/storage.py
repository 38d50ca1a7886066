"""Values in files: pickled, compressed where it helps, written and read in whatever thread asks. Knows no keys' fates.

A file lives as long as somebody refers to its `StoredFile`, so that one whose key is freed while a thread reads it is
removed when that has ended.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, BinaryIO, Self

from headrace.comm.frame_memory import allocate
from headrace.messages.spending import Spent, spend
from headrace.private_directories import chosen_directory, private_opener
from headrace.protocol import Frames
from headrace.protocol.compression import Compressor, offered_compression
from headrace.protocol.frames import Frame
from headrace.protocol.pieces import dumps_in_pieces
from headrace.protocol.unpickling import unpickle, unpickle_pieces

#: What is compressed at a time, in bytes: lz4's package needs twice that for a moment when it is decompressed.
PART_BYTES = 16 << 20
#: Longer pickles are read while they are unpickled: a worker near its limit has no room for both, pickle and value.
IN_PIECES_BYTES = 4 << 20
#: Bytes given to the system at a time, so that a write can be given up soon.
WRITE_BYTES = 16 << 20


class StoredFile:
    """One value on disk.

    Attributes:
        path: the file.
        nbytes: its length in bytes.
        encoded: what lies in it, one after the other, without the bytes themselves.
        reading: held by the thread that brings the value back to memory.
    """

    __slots__ = ("_remove", "encoded", "nbytes", "path", "reading")

    def __init__(self, path: str, encoded: Encoded, remove: Callable[[str], None]) -> None:
        self.path = path
        self.encoded = encoded
        self.nbytes = encoded.nbytes
        self.reading = threading.Lock()
        self._remove = remove

    def __del__(self) -> None:
        self._remove(self.path)


class Encoded:
    """A value that is ready to be written: frames, each cut into parts if they are compressed.

    Attributes:
        parts: bytes to be written, one after the other; none once they are written.
        lengths: of the parts, in bytes.
        flags: for each part whether it is compressed; None if none is, and then no frame is cut.
        counts: of how many parts each frame consists.
        sizes: of the frames, in bytes.
        pickles: how many of the first frames make up the pickle; the others are buffers.
        nbytes: of all parts.
    """

    __slots__ = ("counts", "flags", "lengths", "nbytes", "parts", "pickles", "sizes")

    def __init__(self, parts: list[Frame], flags: list[int] | None, pickles: int, cut: Cut | None = None) -> None:
        self.parts = parts
        self.flags = flags
        self.pickles = pickles
        self.lengths = list(map(len, parts))
        self.nbytes = sum(self.lengths)
        self.counts = cut.counts if cut is not None else [1] * len(parts)
        self.sizes = cut.sizes if cut is not None else self.lengths


class Cut:
    """Frames, cut into parts of at most `PART_BYTES`."""

    __slots__ = ("counts", "parts", "sizes")

    def __init__(self, frames: list[Frame]) -> None:
        self.sizes = list(map(len, frames))
        self.counts: list[int] = []
        self.parts: list[Frame] = []
        for frame in frames:
            if len(frame) <= PART_BYTES:
                cut: list[Frame] = [frame]
            else:
                view = memoryview(frame).cast("B")
                cut = [view[start : start + PART_BYTES] for start in range(0, len(view), PART_BYTES)]
            self.parts += cut
            self.counts.append(len(cut))


class Storage:
    """A directory of values; made when the first is written.

    Args:
        directory: where.
        compression: "auto", "lz4", "zstd" or None (also False).
        remove: called, in any thread and at any moment, with the path of a file that nobody needs any more; must not
            take a lock.

    Raises:
        ValueError: the compression is unknown or not installed.
    """

    def __init__(self, directory: str, compression: str | bool | None, remove: Callable[[str], None]) -> None:
        self.directory = directory
        self._remove = remove
        self._numbers = itertools.count()
        self._is_checked = False
        offered = offered_compression(compression)
        self._compressor = Compressor(offered.split(",")[0]) if offered else None

    def encode(self, value: object, spent: Spent | None = None) -> Encoded:
        """Pickle and compress.

        Args:
            spent: `serialize` and `compress` are added to it.

        Raises:
            SerializationError: it cannot be pickled.
        """
        start = perf_counter()
        pieces, buffers = dumps_in_pieces(value)
        spend(spent, "serialize", perf_counter() - start)
        frames = [*pieces, *buffers]
        if self._compressor is None:
            return Encoded(frames, None, len(pieces))
        cut = Cut(frames)
        start = perf_counter()
        compressed, flags = self._compressor.compress_frames(cut.parts)
        spend(spent, "compress", perf_counter() - start)
        if flags is None:
            return Encoded(frames, None, len(pieces))
        return Encoded(compressed, flags, len(pieces), cut)

    def write(self, encoded: Encoded, spent: Spent | None = None) -> StoredFile:
        """Put a value into a new file.

        Args:
            spent: `disk-write` is added to it.

        Raises:
            OSError: it could not be written; nothing is left of it.
        """
        start = perf_counter()
        if not self._is_checked:  # a buffer that the user makes may be anywhere
            self.directory, self._is_checked = chosen_directory(self.directory), True
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        path = os.path.join(self.directory, f"{next(self._numbers)}")
        try:
            with open(path, "xb", buffering=0, opener=private_opener) as file:
                for part in encoded.parts:
                    write_all(file, part)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        encoded.parts = []
        spend(spent, "disk-write", perf_counter() - start, encoded.nbytes)
        return StoredFile(path, encoded, self._remove)

    def read_frames(self, stored: StoredFile, spent: Spent | None = None) -> Frames:
        """The payload as `headrace.protocol.dumps` makes it, still pickled.

        Args:
            spent: `disk-read` and `decompress` are added to it.

        Raises:
            OSError: it cannot be read, or is not what was written.
        """
        encoded = stored.encoded
        with _Reading(stored, spent) as file:
            if encoded.flags is None:
                lengths = [sum(encoded.lengths[: encoded.pickles]), *encoded.lengths[encoded.pickles :]]
                return Frames([file.read(length) for length in lengths])
            frames = list(self._frames(file, encoded, 0, len(encoded.sizes)))
        pickle = frames[0] if encoded.pickles == 1 else b"".join(frames[: encoded.pickles])
        return Frames([pickle, *frames[encoded.pickles :]])

    def read(self, stored: StoredFile, spent: Spent | None = None) -> Any:
        """The value.

        Args:
            spent: `disk-read`, `decompress` and `deserialize` are added to it.

        Raises:
            OSError: it cannot be read.
            Exception: whatever unpickling raises.
        """
        encoded = stored.encoded
        if encoded.flags is None and sum(encoded.lengths[: encoded.pickles]) <= IN_PIECES_BYTES:
            frames = self.read_frames(stored, spent).frames
            start = perf_counter()
            value = unpickle(frames[0], frames[1:])
            spend(spent, "deserialize", perf_counter() - start)
            return value
        with _Reading(stored, spent) as file:
            file.seek(sum(encoded.lengths[: sum(encoded.counts[: encoded.pickles])]))
            buffers = list(self._frames(file, encoded, encoded.pickles, len(encoded.sizes)))
            file.seek(0)
            start, before = perf_counter(), file.seconds + file.decompressing
            value = unpickle_pieces(self._frames(file, encoded, 0, encoded.pickles), buffers)
            reading = file.seconds + file.decompressing - before
            spend(spent, "deserialize", max(0.0, perf_counter() - start - reading))
            return value

    def _frames(self, file: _Reading, encoded: Encoded, first: int, end: int) -> Iterator[Frame]:
        """Some frames, as they were before compression, from the file's position on, one at a time."""
        position = sum(encoded.counts[:first])
        for size, count in zip(encoded.sizes[first:end], encoded.counts[first:end], strict=True):
            if count == 1:
                yield self._part(file, encoded, position)
            else:
                memory, done = allocate(size)[:size], 0
                for number in range(position, position + count):
                    part = self._part(file, encoded, number)
                    memory[done : done + len(part)] = part
                    done += len(part)
                yield memory
            position += count

    def _part(self, file: _Reading, encoded: Encoded, position: int) -> Frame:
        part = file.read(encoded.lengths[position])
        if encoded.flags is None or not encoded.flags[position]:
            return part
        assert self._compressor is not None
        start = perf_counter()
        part = self._compressor.decompress(part, PART_BYTES)
        file.decompressing += perf_counter() - start
        return part


class _Reading:
    """A file that is being read, and the seconds that this takes; at its end they are added to what is spent.

    Attributes:
        seconds, decompressing: so far.
    """

    def __init__(self, stored: StoredFile, spent: Spent | None) -> None:
        self._stored = stored
        self._spent = spent
        self.seconds = self.decompressing = 0.0

    def __enter__(self) -> Self:
        start = perf_counter()
        self._file = open(self._stored.path, "rb", buffering=0)
        self.seconds += perf_counter() - start
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._file.close()
        if kind is None:
            spend(self._spent, "disk-read", self.seconds, self._stored.nbytes)
            if self._stored.encoded.flags is not None:
                spend(self._spent, "decompress", self.decompressing)

    def seek(self, position: int) -> None:
        """Go on reading elsewhere."""
        self._file.seek(position)

    def read(self, length: int) -> Frame:
        """So many bytes.

        Raises:
            OSError: there are fewer.
        """
        start = perf_counter()
        frame = _read(self._file, length)
        self.seconds += perf_counter() - start
        return frame


def write_all(file: BinaryIO, frame: Frame) -> None:
    """Write all of a frame to an unbuffered file."""
    view = memoryview(frame)
    if view.format != "B":
        view = view.cast("B")
    while view:
        view = view[file.write(view[:WRITE_BYTES]) :]


def _read(file: Any, length: int) -> Frame:
    memory = allocate(length)[:length]
    done = 0
    while done < length:
        count = file.readinto(memory[done:])
        if not count:
            raise OSError(f"{file.name} is shorter than what was written to it")
        done += count
    return memory
