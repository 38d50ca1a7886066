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
from typing import Any

from headrace.comm.memory import allocate
from headrace.protocol import Frames
from headrace.protocol.compression import Compressor, offered_compression
from headrace.protocol.frames import Frame
from headrace.protocol.pieces import dumps_in_pieces
from headrace.protocol.unpickling import unpickle, unpickle_pieces

#: Longer frames are not compressed: the algorithms have limits of about twice this.
LONGEST_COMPRESSED = 1 << 30
#: Longer pickles are read while they are unpickled: a worker near its limit has no room for both, pickle and value.
IN_PIECES_BYTES = 4 << 20
#: Bytes given to the system at a time, so that a write can be given up soon.
WRITE_BYTES = 16 << 20


class StoredFile:
    """One value on disk.

    Attributes:
        path: the file.
        nbytes: its length in bytes.
        lengths: of what lies in it, one after the other, in bytes.
        flags: for each whether it is compressed; None if none is.
        pickles: how many of the first ones make up the pickle; the others are buffers.
        reading: held by the thread that brings the value back to memory.
    """

    __slots__ = ("_remove", "flags", "lengths", "nbytes", "path", "pickles", "reading")

    def __init__(
        self, path: str, lengths: list[int], flags: list[int] | None, pickles: int, remove: Callable[[str], None]
    ) -> None:
        self.path = path
        self.lengths = lengths
        self.flags = flags
        self.pickles = pickles
        self.nbytes = sum(lengths)
        self.reading = threading.Lock()
        self._remove = remove

    def __del__(self) -> None:
        self._remove(self.path)


class Encoded:
    """A value that is ready to be written."""

    __slots__ = ("flags", "frames", "nbytes", "pickles")

    def __init__(self, frames: list[Frame], flags: list[int] | None, pickles: int) -> None:
        self.frames = frames
        self.flags = flags
        self.pickles = pickles
        self.nbytes = sum(map(len, frames))


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
        offered = offered_compression(compression)
        self._compressor = Compressor(offered.split(",")[0]) if offered else None

    def encode(self, value: Any) -> Encoded:
        """Pickle and compress.

        Raises:
            SerializationError: it cannot be pickled.
        """
        pieces, buffers = dumps_in_pieces(value)
        frames = [*pieces, *buffers]
        if self._compressor is None or max(map(len, frames)) > LONGEST_COMPRESSED:
            return Encoded(frames, None, len(pieces))
        compressed, flags = self._compressor.compress_frames(frames)
        return Encoded(compressed, flags, len(pieces))

    def write(self, encoded: Encoded) -> StoredFile:
        """Put a value into a new file.

        Raises:
            OSError: it could not be written; nothing is left of it.
        """
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        path = os.path.join(self.directory, f"{next(self._numbers)}")
        try:
            with open(path, "xb", buffering=0) as file:
                for frame in encoded.frames:
                    write_all(file, frame)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        return StoredFile(path, list(map(len, encoded.frames)), encoded.flags, encoded.pickles, self._remove)

    def read_frames(self, stored: StoredFile) -> Frames:
        """The payload as `headrace.protocol.dumps` makes it, still pickled.

        Raises:
            OSError: it cannot be read, or is not what was written.
        """
        with open(stored.path, "rb", buffering=0) as file:
            if stored.flags is None:
                lengths = [sum(stored.lengths[: stored.pickles]), *stored.lengths[stored.pickles :]]
                return Frames([_read(file, length) for length in lengths])
            frames = [_read(file, length) for length in stored.lengths]
        compressor = self._compressor
        assert compressor is not None
        for position, flag in enumerate(stored.flags):
            if flag:
                frames[position] = compressor.decompress(frames[position], LONGEST_COMPRESSED)
        return Frames([b"".join(frames[: stored.pickles]), *frames[stored.pickles :]])

    def read(self, stored: StoredFile) -> Any:
        """The value.

        Raises:
            OSError: it cannot be read.
            Exception: whatever unpickling raises.
        """
        if stored.flags is None and sum(stored.lengths[: stored.pickles]) <= IN_PIECES_BYTES:
            frames = self.read_frames(stored).frames
            return unpickle(frames[0], frames[1:])
        with open(stored.path, "rb", buffering=0) as file:
            file.seek(sum(stored.lengths[: stored.pickles]))
            buffers = list(self._frames(file, stored, stored.pickles, len(stored.lengths)))
            file.seek(0)
            return unpickle_pieces(self._frames(file, stored, 0, stored.pickles), buffers)

    def _frames(self, file: Any, stored: StoredFile, first: int, end: int) -> Iterator[Frame]:
        """Some of a value's frames, as they were before compression, from the file's position on, one at a time."""
        for position in range(first, end):
            frame = _read(file, stored.lengths[position])
            if stored.flags is not None and stored.flags[position]:
                assert self._compressor is not None
                frame = self._compressor.decompress(frame, LONGEST_COMPRESSED)
            yield frame


def write_all(file: Any, frame: Frame) -> None:
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
