"""Plain buffers need no pickle."""

from __future__ import annotations

import array
from typing import Any

import pytest

from headrace.protocol.families import deserialize, serialize


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abc"),
        memoryview(array.array("d", [1, 2])),
        memoryview(b"abcdef")[::2],
        memoryview(b"abcdef").cast("B", [2, 3]),
        array.array("d", [1, 2]),
        array.array("i"),
    ],
    ids=repr,
)
def test_buffers(value: Any) -> None:
    header, frames = serialize(value, ["dask"])
    for parts in (frames, [bytes(frame) for frame in frames]):
        arrived = deserialize(header, parts, ["dask"])
        assert type(arrived) is type(value)
        assert arrived == value


class Marked(bytes):
    """A subclass may have more to it."""


def test_subclasses_are_pickled() -> None:
    header, frames = serialize(Marked(b"x"))
    assert header["serializer"] == "pickle"
    assert type(deserialize(header, frames)) is Marked
