"""Files of h5py and netCDF4, and what is in them: a path travels, and the file is opened again where it arrives.

So it must lie on a disk that both have, and be open for reading only: of one that is being written, the other process
would not see what this one has not written yet.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from headrace.protocol.frames import Frame

from . import BY_FUNCTIONS, LibraryClass


def classes(toplevel: str) -> Iterator[LibraryClass]:
    """The classes of h5py, or of netCDF4."""
    package = sys.modules[toplevel]
    if toplevel == "h5py":
        for cls in (package.File, package.Group, package.Dataset):
            yield LibraryClass(cls, dump_h5py, load_h5py, BY_FUNCTIONS)
    else:
        for cls in (package.Dataset, package.Group):
            yield LibraryClass(cls, dump_netcdf_group, load_netcdf_group, BY_FUNCTIONS)
        yield LibraryClass(package.Variable, dump_netcdf_variable, load_netcdf_variable, BY_FUNCTIONS)


def dump_h5py(value: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames (none) of a file of h5py, or of a group or dataset in one.

    Raises:
        ValueError: it is closed, open for writing, or in memory.
    """
    if not value:
        raise ValueError("it is closed")
    file = value.file
    if file.mode != "r":
        raise ValueError(f"{file.filename} is open with mode {file.mode!r}: only files open for reading can be sent")
    is_file = isinstance(value, sys.modules["h5py"].File)
    name = None if is_file else value.name
    if name is None and not is_file:
        raise ValueError(f"it has no name in {file.filename}")
    return {"filename": _path(file.filename), "name": name}, []


def load_h5py(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The file, group or dataset that `dump_h5py` named."""
    import h5py

    file = h5py.File(header["filename"], mode="r")
    return file if header["name"] is None else file[header["name"]]


def dump_netcdf_group(value: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames (none) of a dataset of netCDF4, or of a group in one.

    Raises:
        ValueError: it is closed, or in memory.
    """
    dataset = value
    while dataset.parent is not None:
        dataset = dataset.parent
    if not dataset.isopen():
        raise ValueError("it is closed")
    return {"filename": _path(dataset.filepath()), "path": value.path}, []


def load_netcdf_group(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The dataset or group that `dump_netcdf_group` named."""
    import netCDF4

    dataset = netCDF4.Dataset(header["filename"], mode="r")
    path = header["path"].strip("/")
    return dataset[path] if path else dataset


def dump_netcdf_variable(value: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames (none) of a variable of netCDF4; raises as `dump_netcdf_group`."""
    header, frames = dump_netcdf_group(value.group())
    return {**header, "name": value.name}, frames


def load_netcdf_variable(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The variable that `dump_netcdf_variable` named."""
    return load_netcdf_group(header, frames).variables[header["name"]]


def _path(name: str | bytes) -> str:
    """The name of a file as another process on this disk, in another working directory, opens it."""
    name = os.fsdecode(name)
    if "://" in name:  # opened from a server
        return name
    path = os.path.abspath(name)
    if not os.path.exists(path):
        raise ValueError(f"{name} is no file on disk")
    return path
