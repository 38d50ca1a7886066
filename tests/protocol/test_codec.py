"""Messages to frames and back."""

from __future__ import annotations

import contextlib
import enum
import gc
import math
import struct
import weakref
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.common.keys import to_wire
from headrace.exceptions import DeserializationError, SerializationError
from headrace.messages import FromWorker
from headrace.messages.worker import AddKeys, TaskFinished
from headrace.protocol import Frames, Serialize, Serialized, StreamCodec, decode, dumps, encode, unwrap

texts = st.text(st.characters())  # lone surrogates included
atoms = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts, st.binary())
keys = st.recursive(
    st.one_of(texts, st.binary(), st.integers(), st.floats(allow_nan=False)),
    lambda parts: st.lists(parts, max_size=3).map(tuple),
    max_leaves=6,
)
values = st.recursive(
    atoms,
    lambda parts: st.one_of(
        st.lists(parts, max_size=4),
        st.lists(parts, max_size=4).map(tuple),
        st.dictionaries(keys, parts, max_size=4),
        st.sets(keys, max_size=4),
        st.frozensets(keys, max_size=4),
    ),
    max_leaves=15,
)


def same(left: Any, right: Any) -> bool:
    """Equal, with the same types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    return bool(left == right)


@settings(deadline=None)
@given(values)
def test_rpc_values_come_back_as_they_were(value: Any) -> None:
    assert same(decode(encode(value)), value)


@settings(deadline=None)
@given(keys)
def test_keys_come_back_as_they_were(key: Any) -> None:
    assert same(decode(encode({key: key})), {key: key})


wire_texts = st.text()
wire_keys = st.recursive(
    st.one_of(wire_texts, st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False)),
    lambda parts: st.lists(parts, max_size=3).map(tuple),
    max_leaves=5,
).map(to_wire)


@settings(deadline=None)
@given(st.lists(wire_keys, max_size=5))
def test_stream_keys_come_back_as_they_were(keys: list[Any]) -> None:
    codec = StreamCodec(FromWorker)
    (message,) = codec.decode(codec.encode([AddKeys(keys)]))
    assert same(message.keys, keys)


def test_numbers_at_the_edges() -> None:
    for value in (2**63, 2**64, -(2**63), -(2**63) - 1, 10**100, -(10**100), -1, 255, -129, math.inf, -0.0):
        assert same(decode(encode([value])), [value])
    assert math.isnan(decode(encode(math.nan)))


def test_large_buffers_go_out_of_band() -> None:
    large = bytes(100_000)
    frames = encode({"a": large, "b": (bytearray(large), memoryview(large)), "c": Frames([b"x", large])})
    assert [len(frame) for frame in frames[1:]] == [100_000, 100_000, 100_000, 1, 100_000]
    assert frames[1] is large
    back = decode(frames)
    assert back["a"] == large
    assert back["b"] == (large, large)
    assert back["c"] == Frames([b"x", large])


def test_frames_are_let_go_of_at_once() -> None:
    """Without help of the garbage collector, which may come late."""

    class Buffer(bytearray):
        pass

    large = Buffer(100_000)
    gone = weakref.ref(large)
    gc.disable()
    try:
        frames = encode([(1, Frames([memoryview(large)])), Serialize(1)])
        del large
        message = decode(frames)
        codec = StreamCodec(FromWorker)
        codec.decode(codec.encode([TaskFinished("a", 1, 3, "int", 0.0, 1.0, result=message[0][1])]))
        del frames, message
        assert gone() is None
    finally:
        gc.enable()


def test_marks() -> None:
    message = {"f": Serialize(len), "data": {"x": Serialize(b"y" * 100_000)}}
    assert decode(encode(message)) == {"f": len, "data": {"x": b"y" * 100_000}}
    closed = decode(encode(message), deserialize=False)
    assert isinstance(closed["f"], Serialized)
    assert unwrap(closed["f"]) is len
    assert unwrap(3) == 3
    assert unwrap(Serialize(4)) == 4
    assert decode(encode(closed)) == {"f": len, "data": {"x": b"y" * 100_000}}
    assert "Serialize" in repr(message["f"])
    assert "Serialized" in repr(closed["f"])


class Text(str):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


def test_subclasses_become_their_base() -> None:
    assert same(decode(encode([Text("a"), {Text("k"): 1}])), ["a", {"k": 1}])


@pytest.mark.parametrize("value", [object(), 1j, Decimal(1), Colour.RED, range(3), Exception("x"), {"a": [object()]}])
def test_what_messages_cannot_carry_is_named(value: Any) -> None:
    inner = value["a"][0] if isinstance(value, dict) else value
    with pytest.raises(TypeError, match=rf"cannot carry a \S*{type(inner).__name__}.*Serialize"):
        encode({"x": value})


def test_a_mark_on_something_unpicklable() -> None:
    with pytest.raises(SerializationError, match="generator"):
        encode({"x": Serialize(x for x in ())})


def test_a_pickle_that_cannot_be_loaded() -> None:
    frames = encode([Serialized.of(b"cno_such_module\nx\n."), 1])
    with pytest.raises(DeserializationError, match="no_such_module"):
        decode(frames)
    assert decode(frames, deserialize=False)[1] == 1


def test_too_deep() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="too deep"):
        encode(value)
    while value:  # without recursion in the collector
        (value,) = value


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
@example(b"\x91\x91\xaa" + bytes(9) + b"\x80")  # a tag that is no text
def test_garbage_is_refused(data: bytes) -> None:
    with contextlib.suppress(msgspec.MsgspecError, DeserializationError):
        decode([data])
    with contextlib.suppress(msgspec.MsgspecError):
        StreamCodec(FromWorker).decode([data])


@pytest.mark.parametrize("code", range(14))
def test_malformed_extensions_are_refused(code: int) -> None:
    for data in (b"", b"\x01", b"\xff" * 8, b"\x01\x00\x00\x00\x05\x00\x00\x00"):
        frames = [msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data))]
        try:
            decode(frames)
        except (msgspec.MsgspecError, DeserializationError):
            continue
        assert code in (6, 10) or code == 7, code  # any bytes are an integer


def test_streams_carry_payloads() -> None:
    codec = StreamCodec(FromWorker)
    payload = dumps(b"z" * 200_000)
    messages = [
        TaskFinished("a", 1, 3, "int", 0.0, 1.0, result=b"small"),
        TaskFinished("b", 1, 3, "int", 0.0, 1.0, result=payload),
        TaskFinished("c", 1, 3, "int", 0.0, 1.0),
        TaskFinished("d", 1, 3, "int", 0.0, 1.0, result=Frames([b"1", b"2"])),
    ]
    frames = codec.encode(messages)
    assert len(frames) == 5
    assert codec.decode(frames) == messages
    assert len(codec.encode(messages[:1])) == 1


def test_stream_messages_are_checked() -> None:
    codec = StreamCodec(FromWorker)
    with pytest.raises(TypeError, match=r"cannot carry a object.*dumps"):
        codec.encode([TaskFinished("a", 1, 3, "int", 0.0, 1.0, result=object())])
    for wrong in ([["TaskFinished", "a"]], [["NoSuchMessage"]], {"a": 1}, [AddKeys([None])]):  # type: ignore[list-item]
        with pytest.raises(msgspec.ValidationError):
            codec.decode([msgspec.msgpack.encode(wrong)])
    frames = codec.encode([TaskFinished("a", 1, 3, "int", 0.0, 1.0, result=Frames([b"1"]))])
    with pytest.raises(msgspec.ValidationError, match="frames"):
        codec.decode(frames[:1])


@pytest.mark.parametrize("sizes", [[3] * 5000, [0, 1, 70_000] * 700, [0] * 1500])
def test_very_many_small_frames_travel_as_one(sizes: list[int]) -> None:
    """Each would cost its receiver some hundred bytes."""
    value = Frames([bytes([position % 251]) * size for position, size in enumerate(sizes)])
    packet = encode({"x": value, "y": Frames([b"z"])})
    assert len(packet) == (3 if sum(sizes) < 4096 * len(sizes) else len(sizes) + 2)
    assert decode(packet) == {"x": value, "y": Frames([b"z"])}


@pytest.mark.parametrize("reference", [b"", bytes(7), struct.pack("<II", 1, 2), struct.pack("<IIQQ", 1, 1, 3, 9)])
def test_references_that_do_not_fit(reference: bytes) -> None:
    head = msgspec.msgpack.encode({"x": msgspec.msgpack.Ext(1, reference)})
    with pytest.raises(msgspec.ValidationError):
        decode([head, bytes(10)])
