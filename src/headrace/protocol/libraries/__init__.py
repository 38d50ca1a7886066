"""How objects of well-known packages are serialized: a module for each kind, imported once such an object turns up.

A module here has a function `classes`, which names the classes of a package and their functions. Nothing here
registers anything (`registered` does), and no package is imported that the program has not imported itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from headrace.protocol.frames import Frame

#: For `LibraryClass.pickled`: pickled by the same two functions, because the class cannot be pickled otherwise.
BY_FUNCTIONS: Any = object()

#: By the top of a class's module: the module here that knows it, and the module of theirs that has the classes.
LIBRARIES = {
    "builtins": ("buffers", "builtins"),
    "array": ("buffers", "array"),
    "numpy": ("arrays", "numpy"),
    "h5py": ("array_files", "h5py"),
    "netCDF4": ("array_files", "netCDF4"),
    "scipy": ("picklable", "scipy.sparse"),
    "sparse": ("picklable", "sparse"),
    "keras": ("picklable", "keras"),
    "torch": ("picklable", "torch"),
    "torchvision": ("picklable", "torch"),
    "pyarrow": ("arrow", "pyarrow"),
    "cupy": ("device_arrays", "cupy"),
    "cupyx": ("device_arrays", "cupyx.scipy.sparse"),
    "numba": ("device_arrays", "numba.cuda.cudadrv.devicearray"),
    "rmm": ("device_arrays", "rmm"),
    "cudf": ("device_arrays", "cudf"),
    "dask_cudf": ("device_arrays", "dask_cudf"),
    "cuml": ("device_arrays", "cuml"),
}
#: Those whose objects are in the memory of GPUs.
ON_DEVICES = frozenset({"cupy", "cupyx", "numba", "rmm", "cudf", "dask_cudf", "cuml"})


class LibraryClass(NamedTuple):
    """A class, and how its instances are serialized.

    Attributes:
        dumps: from an instance to a header of plain values and frames; NotImplementedError for what is to be pickled.
        loads: back.
        pickled: reduces an instance (not one of a subclass) where pickling meets it; None if it pickles well by itself.
        cuda: two more functions, whose frames stay in the memory of the device; for the family "cuda".
    """

    cls: type
    dumps: Callable[[Any], tuple[dict[str, Any], list[Any]]]
    loads: Callable[[dict[str, Any], list[Frame]], Any]
    pickled: Callable[[Any], Any] | None = None
    cuda: tuple[Callable[..., Any], Callable[..., Any]] | None = None
