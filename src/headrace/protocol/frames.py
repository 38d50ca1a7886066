"""Large payloads: a list of buffers that travel beside their message and are never copied, joined or looked into."""

from __future__ import annotations

from collections.abc import Callable
from pickle import PickleBuffer
from typing import TypeAlias

#: What a frame may be. Readers get `memoryview`s (writable, of fresh memory) or `bytes`.
Frame: TypeAlias = bytes | bytearray | memoryview

#: Asked by a pickler for each buffer; those for which the answer is false are left out of the pickle.
BufferCallback: TypeAlias = Callable[[PickleBuffer], object]


class Frames:
    """A pickle (first) and its out-of-band buffers; opaque to everyone but `loads`."""

    __slots__ = ("frames",)

    #: Whether the buffers are those of a value in this process, which receivers are to have, too.
    shared = False

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames

    @property
    def nbytes(self) -> int:
        """Bytes in all frames together."""
        return sum(map(len, self.frames))

    def __repr__(self) -> str:
        return f"<Frames: {len(self.frames)} frames, {self.nbytes} bytes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frames) and self.frames == other.frames

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[Frames], tuple[list[bytes]]]:
        return Frames, ([bytes(frame) for frame in self.frames],)


class SharedFrames(Frames):
    """Frames for receivers in this process."""

    __slots__ = ()

    shared = True
