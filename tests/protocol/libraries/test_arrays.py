"""Arrays arrive as they were; those that repeat values travel as these values."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from headrace.protocol import Frames, dumps, hand_over, loads
from headrace.protocol.families import deserialize, serialize
from headrace.protocol.functions.by_value import cloudpickle_dumps
from headrace.protocol.pieces import dumps_in_pieces

broadcast = np.broadcast_to


def nbytes(payload: bytes | Frames) -> int:
    return payload.nbytes if isinstance(payload, Frames) else len(payload)


REPEATING: dict[str, tuple[Any, tuple[int, ...]]] = {
    "one value": (broadcast(1.0, (1000, 1000)), (0, 0)),
    "a row": (broadcast(np.arange(1000.0), (1000, 1000)), (0, 8)),
    "a column": (broadcast(np.arange(1000.0)[:, None], (1000, 1000)), (8, 0)),
    "in the middle": (broadcast(np.arange(100.0).reshape(10, 1, 10), (10, 500, 10)), (80, 0, 8)),
    "of Fortran's order": (broadcast(np.asfortranarray(np.arange(60.0).reshape(6, 10)), (300, 6, 10)), (0, 8, 48)),
    "with gaps": (broadcast(np.arange(1000.0), (1000, 1000))[:, ::2], (0, 8)),
    "a date": (broadcast(np.datetime64("2020-01-01"), (1000, 1000)), (0, 0)),
    "a record": (broadcast(np.ones((), [("a", "i4"), ("b", "f8")]), (500, 500)), (0, 0)),
    "of the other byte order": (broadcast(np.array(1, ">i4"), (1000, 1000)), (0, 0)),
    "no text": (broadcast(np.array(b""), (100_000,)), (0,)),
}


@pytest.mark.parametrize("kind", REPEATING)
def test_an_array_that_repeats_values_is_sent_once(kind: str) -> None:
    array, strides = REPEATING[kind]
    payload = dumps([array, {"again": array}])
    assert nbytes(payload) < 10_000
    first, others = loads(payload)
    assert others["again"] is first
    assert first.strides == strides
    assert first.dtype == array.dtype
    assert not first.flags.writeable
    np.testing.assert_array_equal(first, array)


def test_an_array_that_repeats_values_is_written_to_disk_once() -> None:
    pieces, buffers = dumps_in_pieces({"x": broadcast(1.0, (1000, 1000))})
    assert sum(map(len, pieces)) + sum(map(len, buffers)) < 1000


def test_an_array_that_repeats_values_may_be_in_a_function() -> None:
    array = broadcast(np.arange(1000.0), (1000, 1000))
    data = cloudpickle_dumps(lambda: array, None)
    assert len(data) < 20_000
    assert loads(data)().strides == (0, 8)


def test_an_array_that_repeats_values_shares_its_memory_within_a_process() -> None:
    row = np.arange(10.0)
    arrived = loads(hand_over(broadcast(row, (10, 10))))
    assert arrived.strides == (0, 8)
    assert np.shares_memory(arrived, row)


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(4, 6),
        np.asfortranarray(np.arange(24.0).reshape(4, 6)),
        np.lib.stride_tricks.as_strided(np.ones(1), (100, 100), (0, 0)),
        np.empty((0, 5)),
        np.array(3.0),
        np.ones((1, 1, 1)),
        np.zeros(3, "V0"),
        np.array(["ab", "c"], dtype=np.dtypes.StringDType()),
    ],
    ids=["C", "F", "repeating", "empty", "0d", "single", "V0", "texts"],
)
def test_flags_and_strides_arrive(array: Any, writable: bool) -> None:
    array = array[...]
    array.flags.writeable = writable
    for arrived in (loads(dumps(array)), deserialize(*serialize(array)), deserialize(*as_bytes(*serialize(array)))):
        assert arrived.strides == array.strides or not array.itemsize
        assert (arrived.flags.c_contiguous, arrived.flags.f_contiguous) == (
            array.flags.c_contiguous,
            array.flags.f_contiguous,
        )
        if array.itemsize and array.dtype.kind != "T":
            assert arrived.flags.writeable == writable
        assert (arrived == array).all()


def as_bytes(header: dict[str, Any], frames: list[Any]) -> tuple[dict[str, Any], list[bytes]]:
    return header, [bytes(frame) for frame in frames]


@pytest.mark.parametrize("step", [np.s_[:, ::2], np.s_[::-1], np.s_[1:3, 2:4]])
def test_what_lies_between_is_not_sent(step: Any) -> None:
    array = np.arange(1_000_000.0).reshape(1000, 1000)[step]
    payload = dumps(array)
    assert nbytes(payload) < array.nbytes + 1000
    if array.nbytes > 100_000:
        assert isinstance(payload, Frames)
        assert len(payload.frames) == 2  # beside the pickle
    np.testing.assert_array_equal(loads(payload), array)


def test_objects_are_pickled() -> None:
    array = np.array([1, "a", None], dtype=object)
    assert list(loads(dumps(array))) == [1, "a", None]
    assert list(deserialize(*serialize(array, ["dask"]), ["dask"])) == [1, "a", None]


MASKED = {
    "repeating": np.ma.masked_array(broadcast(1.0, (1000, 1000)), mask=broadcast(np.True_, (1000, 1000))),
    "no mask": np.ma.masked_array(np.arange(4)),
    "filled": np.ma.masked_array([1, 2], mask=[0, 1], fill_value=99, hard_mask=True),
    "Fortran": np.ma.masked_array(np.asfortranarray(np.arange(6).reshape(2, 3)), mask=False),
    "objects": np.ma.masked_array(np.array([1, "a"], dtype=object), mask=[0, 1]),
}


@pytest.mark.parametrize("kind", MASKED)
def test_masked_arrays(kind: str) -> None:
    array = MASKED[kind]
    payload = dumps(array)
    assert nbytes(payload) < 1000
    for arrived in (loads(payload), deserialize(*serialize(array, ["dask"]), ["dask"])):
        assert type(arrived) is np.ma.MaskedArray
        assert arrived.strides == array.strides
        assert np.ma.getmaskarray(arrived).tolist() == np.ma.getmaskarray(array).tolist()
        assert np.ma.getmask(arrived) is np.ma.nomask or kind != "no mask"
        assert arrived.data.tolist() == array.data.tolist()
        assert (arrived.fill_value, arrived.hardmask) == (array.fill_value, array.hardmask)


def test_the_masked_constant_is_one() -> None:
    assert loads(dumps(np.ma.masked)) is np.ma.masked
    assert deserialize(*serialize(np.ma.masked, ["dask"])) is np.ma.masked


class Named(np.ndarray[Any, Any]):
    """A subclass with more than the array."""

    name = "without"

    def __reduce__(self) -> Any:
        return rebuild_named, (self.tolist(), self.name)


def rebuild_named(values: list[float], name: str) -> Named:
    made = np.array(values).view(Named)
    made.name = name
    return made


def test_subclasses_keep_their_class() -> None:
    named = rebuild_named([1.0, 2.0], "mine")
    for arrived in (loads(dumps([named]))[0], deserialize(*serialize(named))):
        assert (type(arrived), arrived.name) == (Named, "mine")
    with pytest.raises(TypeError, match="Could not serialize"):
        serialize(named, ["dask"], on_error="raise")
    records = np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later numpy warns whenever it meets a chararray
        for array in (np.array([[1, 2]]).view(np.matrix), records, np.char.array(["a"])):
            arrived = deserialize(*serialize(array, ["dask"]), ["dask"])
            assert type(arrived) is type(array)
            assert arrived.dtype == array.dtype
            assert (arrived == array).all()


@pytest.mark.parametrize("value", [np.float64(2), np.int32(3), np.bool_(True), np.datetime64("2020-01-01")])
def test_numbers_need_no_pickle(value: Any) -> None:
    arrived = deserialize(*serialize(value, ["dask", "msgpack"]), ["dask", "msgpack"])
    assert (arrived, type(arrived)) == (value, type(value))
