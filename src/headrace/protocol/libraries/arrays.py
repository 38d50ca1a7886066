"""Arrays of numpy: those that repeat values travel as these values, those with gaps in their memory without the gaps.

numpy pickles what has no gaps without a copy. All else it writes out into the pickle, value by value, which makes
8 MB of `np.broadcast_to(1.0, (1000, 1000))`; here it goes as one number, a shape and strides, and arrives so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pickle import PickleBuffer
from typing import Any

import numpy as np

from headrace.protocol.frames import Frame

from . import LibraryClass
from .picklable import dump_pickle, load_pickle

with warnings.catch_warnings():  # numpy warns of its end where it is named
    warnings.simplefilter("ignore", DeprecationWarning)
    _CHARARRAY: type = np.char.chararray

#: Subclasses that are views of an ordinary array, and nothing more.
_VIEWS: dict[str, type] = {
    "matrix": np.matrix,
    "recarray": np.recarray,
    "chararray": _CHARARRAY,
    "memmap": np.ndarray,  # it has no file where it arrives
    "ndarray": np.ndarray,
}
_NAMES = {np.matrix: "matrix", np.recarray: "recarray", _CHARARRAY: "chararray", np.memmap: "memmap"}


def classes(toplevel: str) -> Iterator[LibraryClass]:
    """The classes of numpy."""
    yield LibraryClass(np.ndarray, dump_array, load_array, reduce_array)
    yield LibraryClass(np.ma.MaskedArray, dump_masked, load_masked, reduce_masked)
    yield LibraryClass(type(np.ma.masked), dump_pickle, load_pickle)
    yield LibraryClass(np.generic, dump_pickle, load_pickle)


def reduce_array(array: np.ndarray[Any, Any]) -> Any:
    """Reduce an array for pickling."""
    if array.flags.forc and 0 not in array.strides:
        return array.__reduce_ex__(5)
    dtype = array.dtype
    if _is_opaque(dtype):
        return array.__reduce_ex__(5)
    strides, writable, memory = _without_gaps(array)
    return rebuild_array, (dtype, array.shape, strides, writable, PickleBuffer(memory))


def rebuild_array(dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], writable: bool, memory: Any) -> Any:
    """The array in a piece of memory, which is used as it is, or copied if that is not writable but ought to be."""
    view = memoryview(memory)
    if writable and view.readonly:
        view = memoryview(bytearray(view))
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, buffer=view, strides=strides)
    if not writable:
        array.flags.writeable = False
    return array


def dump_array(array: np.ndarray[Any, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of an array.

    Raises:
        NotImplementedError: an instance of a subclass that may have more to it than the array.
    """
    name = "ndarray" if type(array) is np.ndarray else _NAMES.get(type(array))
    if name is None:
        raise NotImplementedError(f"a {type(array).__name__} may be more than an array")
    array = array.view(np.ndarray)
    if _is_opaque(array.dtype):
        header, frames = dump_pickle(array)
        return {**header, "class": name}, frames
    strides, writable, memory = _without_gaps(array)
    header = {
        "class": name,
        "dtype": _packed_type(array.dtype),
        "shape": array.shape,
        "strides": strides,
        "writeable": writable,
    }
    return header, [memory]


def load_array(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The array in what `dump_array` returned."""
    cls = _VIEWS[header["class"]]
    if header.get("pickled"):
        array = load_pickle(header, frames)
    else:
        # one that was split on its way is joined; header values may have come as lists
        memory = frames[0] if len(frames) == 1 else bytearray().join(frames)
        dtype = load_pickle(header, [header["dtype"]])
        array = rebuild_array(dtype, tuple(header["shape"]), tuple(header["strides"]), header["writeable"], memory)
    return array if cls is np.ndarray else array.view(cls)


def reduce_masked(array: np.ma.MaskedArray[Any, Any]) -> Any:
    """Reduce a masked array for pickling: its two arrays may repeat values, and be large."""
    if array.baseclass is not np.ndarray or array._optinfo:  # type: ignore[attr-defined]
        return array.__reduce_ex__(5)
    return rebuild_masked, _parts_of_masked(array)


def _parts_of_masked(array: np.ma.MaskedArray[Any, Any]) -> tuple[Any, Any, Any, bool]:
    mask = np.ma.getmask(array)
    fill = vars(array)["_fill_value"]  # None for the default, which `fill_value` does not tell
    return array.data, None if mask is np.ma.nomask else mask, fill, bool(array.hardmask)


def rebuild_masked(data: Any, mask: Any, fill_value: Any, hard: bool) -> Any:
    """The masked array of these two arrays."""
    mask = np.ma.nomask if mask is None else mask
    return np.ma.MaskedArray(data, mask=mask, fill_value=fill_value, hard_mask=hard)


def dump_masked(array: np.ma.MaskedArray[Any, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of a masked array.

    Raises:
        NotImplementedError: it is more than its two arrays.
    """
    # one with numpy's `_optinfo` has whatever its user put there
    if type(array) is not np.ma.MaskedArray or array.baseclass is not np.ndarray or array._optinfo:  # type: ignore[attr-defined]
        raise NotImplementedError(f"a {type(array).__name__} may be more than a masked array")
    data, mask, fill_value, hard = _parts_of_masked(array)
    inner, frames = dump_array(data)
    header: dict[str, Any] = {"data": inner, "count": len(frames), "mask": None, "hard": hard, "fill": None}
    if mask is not None:
        header["mask"], more = dump_array(mask)
        frames = frames + more
    if fill_value is not None:
        header["fill"] = b"".join(dump_pickle(fill_value)[1])
    return header, frames


def load_masked(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The masked array in what `dump_masked` returned."""
    data = load_array(header["data"], frames[: header["count"]])
    mask = None if header["mask"] is None else load_array(header["mask"], frames[header["count"] :])
    fill_value = None if header["fill"] is None else load_pickle(header, [header["fill"]])
    return rebuild_masked(data, mask, fill_value, header["hard"])


def _is_opaque(dtype: np.dtype[Any]) -> bool:
    """Whether the memory of an array is not all there is to it, or nothing at all."""
    return dtype.hasobject or dtype.itemsize == 0 or dtype.kind == "T"


def _without_gaps(array: np.ndarray[Any, Any]) -> tuple[tuple[int, ...], bool, Any]:
    """Strides, whether it may be written to, and bytes: the array's memory, or a copy of its values, each once."""
    writable = array.flags.writeable
    if not array.size:
        return array.strides, writable, memoryview(b"")
    kept = [axis for axis, step in enumerate(array.strides) if step]
    base = array[(..., *[slice(None) if step else 0 for step in array.strides])]  # the dots: always an array
    if not base.flags.forc:
        in_order = sorted(range(base.ndim), key=lambda axis: -base.strides[axis])
        if not base.transpose(in_order).flags.c_contiguous:
            base = base.copy(order="K")
            writable = writable or len(kept) == array.ndim  # a copy is the receiver's own
    strides = [0] * array.ndim
    for axis, step in zip(kept, base.strides, strict=True):
        strides[axis] = step
    flat: np.ndarray[Any, Any] = base.ravel(order="K").view(np.uint8)
    if not writable:
        flat.flags.writeable = False
    return tuple(strides), writable, flat.data


def _packed_type(dtype: np.dtype[Any]) -> bytes:
    return b"".join(dump_pickle(dtype)[1])
