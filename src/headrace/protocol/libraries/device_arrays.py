"""Objects in the memory of GPUs: over a network their bytes travel by way of this machine's memory.

The family "cuda" leaves them where they are: its frames are the objects themselves. RAPIDS' packages bring functions of
their own, which they register when they are asked to. No GPU and no package is needed to import this.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

from headrace.protocol.frames import Frame

from . import BY_FUNCTIONS, LibraryClass
from .picklable import dump_pickle, load_pickle

#: Packages whose own module registers their classes.
_REGISTER_THEMSELVES = frozenset({"cudf", "dask_cudf", "cuml"})


def classes(toplevel: str) -> Iterator[LibraryClass]:
    """The classes of a package that has been imported; none of those that register their own."""
    if toplevel in _REGISTER_THEMSELVES:
        importlib.import_module(f"{toplevel}.comm.serialize")
    elif toplevel == "cupy":
        yield LibraryClass(
            sys.modules["cupy"].ndarray, dump_cupy, load_cupy, None, (dump_on_device, load_cupy_on_device)
        )
    elif toplevel == "cupyx":
        yield LibraryClass(sys.modules["cupyx.scipy.sparse"].spmatrix, dump_pickle, load_pickle)
    elif toplevel == "numba":
        cls = sys.modules["numba.cuda.cudadrv.devicearray"].DeviceNDArray
        yield LibraryClass(cls, dump_numba, load_numba, BY_FUNCTIONS, (dump_on_device, load_numba_on_device))
    elif toplevel == "rmm":
        yield LibraryClass(sys.modules["rmm"].DeviceBuffer, dump_rmm, load_rmm, None, (dump_buffer, load_buffer))


def dump_cupy(array: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames, in this machine's memory, of an array of cupy."""
    return _dump_host(sys.modules["cupy"].asnumpy(array))


def load_cupy(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The array of cupy in what `dump_cupy` returned."""
    import cupy

    return cupy.asarray(_load_host(header, frames))


def dump_numba(array: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames, in this machine's memory, of an array of numba's on a device."""
    return _dump_host(array.copy_to_host())


def load_numba(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The array of numba's in what `dump_numba` returned."""
    from numba import cuda

    return cuda.to_device(_load_host(header, frames))


def dump_rmm(buffer: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames, in this machine's memory, of a buffer of rmm."""
    return {}, [memoryview(buffer.copy_to_host())]


def load_rmm(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The buffer of rmm in what `dump_rmm` returned."""
    import rmm

    return rmm.DeviceBuffer.to_device(frames[0] if len(frames) == 1 else b"".join(frames))


def dump_on_device(array: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of an array that stays on its device."""
    interface = array.__cuda_array_interface__
    strides = interface.get("strides")
    header = {
        "shape": tuple(interface["shape"]),
        "typestr": interface["typestr"],
        "strides": None if strides is None else tuple(strides),
    }
    return header, [array]


def load_cupy_on_device(header: dict[str, Any], frames: list[Any]) -> Any:
    """The array of cupy whose memory on the device is the frame."""
    import cupy

    return cupy.asarray(_Described(header, frames[0]))


def load_numba_on_device(header: dict[str, Any], frames: list[Any]) -> Any:
    """The array of numba's whose memory on the device is the frame."""
    from numba import cuda

    return cuda.as_cuda_array(_Described(header, frames[0]))


def dump_buffer(buffer: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of a buffer that stays on its device."""
    return {}, [buffer]


def load_buffer(header: dict[str, Any], frames: list[Any]) -> Any:
    """The buffer that came as a frame."""
    return frames[0]


class _Described:
    """Memory on a device, with a shape and a type of elements."""

    def __init__(self, header: dict[str, Any], memory: Any) -> None:
        self._memory = memory
        data = memory.__cuda_array_interface__["data"]
        self.__cuda_array_interface__ = {**header, "data": data, "version": 3}


def _dump_host(array: Any) -> tuple[dict[str, Any], list[Any]]:
    from .arrays import dump_array

    return dump_array(array)


def _load_host(header: dict[str, Any], frames: list[Frame]) -> Any:
    from .arrays import load_array

    return load_array(header, frames)
