"""Messages as lists of frames, for users' own protocols."""

from __future__ import annotations

import enum
import threading
from collections import namedtuple
from typing import Any

import pytest

import distributed.protocol
import distributed.protocol.serialize
import headrace.protocol
from headrace.compat.protocol.core import dumps, loads
from headrace.exceptions import SerializationError
from headrace.protocol import Serialize, Serialized, ToPickle

Point = namedtuple("Point", "x y")


class Color(enum.Enum):
    red = 1


class Unloadable:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ValueError("refused")


@pytest.mark.parametrize(
    "message",
    [
        None,
        {"op": "x", "a": (1, 2.5, True), "s": {1, 2}, "f": frozenset({3}), "b": b"bytes", "n": None},
        [1, [2, (3,)], {1: 2, (1, 2): 3}],
        2**100,
        Point(1, {2}),
        {"color": Color.red, Color.red: "key"},
        bytes(200_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_round_trips(message: Any) -> None:
    frames = dumps(message)
    assert type(frames) is list
    assert all(isinstance(frame, (bytes, bytearray, memoryview)) for frame in frames)
    for form in (frames, [bytes(frame) for frame in frames], tuple(memoryview(frame) for frame in frames)):
        again = loads(form)
        assert again == message
        assert type(again) is type(message)


def test_marked_values() -> None:
    message = {"data": Serialize(Point(1, 2)), "always": ToPickle({1: Point}), "list": [Serialize([1, 2])]}
    assert loads(dumps(message)) == {"data": Point(1, 2), "always": {1: Point}, "list": [[1, 2]]}
    closed = loads(dumps(message), deserialize=False)
    assert type(closed["data"]) is Serialized
    assert closed["always"] == {1: Point}
    assert loads(dumps(closed))["data"] == Point(1, 2)


def test_families() -> None:
    frames = dumps({"x": Serialize(Point(1, 2))}, serializers=["pickle"])
    assert loads(frames, deserializers=["pickle"])["x"] == Point(1, 2)
    with pytest.raises(TypeError, match=r"serialized with pickle but only able to deserialize data with.*dask"):
        loads(frames, deserializers=["dask"])
    with pytest.raises(TypeError, match="Could not serialize object of type Point"):
        dumps({"x": Serialize(Point(1, 2))}, serializers=["dask"], on_error="raise")
    told = dumps({"x": Serialize(Point(1, 2))}, serializers=["dask"])
    with pytest.raises(TypeError, match="Could not serialize object of type Point"):
        loads(told)


def test_long_frames_are_split() -> None:
    frames = dumps({"x": Serialize(bytes(range(250)) * 4)}, frame_split_size=100)
    assert len(frames) > 10
    assert max(len(frame) for frame in frames[1:]) == 100
    assert loads(frames)["x"] == bytes(range(250)) * 4


def test_what_cannot_be_sent() -> None:
    with pytest.raises(SerializationError, match=r"_thread\.lock"):
        dumps({"x": threading.Lock()})
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="nested too deep"):
        dumps(nested)
    with pytest.raises(ValueError, match="on_error"):
        dumps(1, on_error="ignore")
    with pytest.raises(ValueError, match="frame_split_size"):
        dumps(1, frame_split_size=0)


def test_what_cannot_be_read() -> None:
    with pytest.raises(headrace.protocol.DeserializationError, match="refused"):
        loads(dumps([Unloadable()]))
    frames = dumps({"x": bytes(100_000)})
    for bad in ([], frames[:-1], [*frames, b""], [b"\xc1"], [b"\x91\x00"], [b"text", b""]):
        with pytest.raises(ValueError, match=r"no whole message|no message"):
            loads(bad)
    with pytest.raises(TypeError, match="list of frames"):
        loads(b"".join(bytes(frame) for frame in frames))  # type: ignore[arg-type]


def test_the_public_package() -> None:
    package: Any = distributed.protocol
    assert package.dumps is dumps
    assert package.loads is loads
    assert package.serialize is headrace.compat.protocol.serialize  # and not the module
    assert package.pickle.dumps(1)
    assert package.Serialize is Serialize
    assert "dask_serialize" in dir(package)
    assert not hasattr(package, "nonsense")
    space: dict[str, Any] = {}
    exec("from distributed.protocol import *", space)
    assert space["loads"] is loads
