"""What is in files of h5py and netCDF4 is opened again where it arrives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest

from headrace.exceptions import SerializationError
from headrace.protocol import dumps, loads
from headrace.protocol.families import deserialize, serialize


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(10)
        file["group/y"] = np.arange(3)
    return path


@pytest.fixture
def netcdf(tmp_path: Path) -> Path:
    path = tmp_path / "x.nc"
    with netCDF4.Dataset(path, "w") as dataset:
        group = dataset.createGroup("outer").createGroup("inner")
        for place, name in ((dataset, "x"), (group, "y")):
            place.createDimension("n", 3)
            place.createVariable(name, "f8", ("n",))[:] = [1, 2, 3]
    return path


def arrivals(value: Any) -> Iterator[Any]:
    yield loads(dumps([value]))[0]
    yield deserialize(*serialize(value, ["dask"]), ["dask"])


def test_files_groups_and_datasets_of_h5py(hdf5: Path) -> None:
    with h5py.File(hdf5, "r") as file:
        for arrived in arrivals(file):
            assert arrived["x"][3] == 3
            assert arrived.mode == "r"
            arrived.close()
        for arrived in arrivals(file["group"]):
            assert list(arrived) == ["y"]
            arrived.file.close()
        for arrived in arrivals(file["group/y"]):
            assert arrived[:].tolist() == [0, 1, 2]
            arrived.file.close()


def test_a_relative_path_is_found_from_elsewhere(hdf5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hdf5.parent)
    with h5py.File(hdf5.name, "r") as file:
        payload = dumps(file["x"])
    monkeypatch.chdir(os.sep)
    arrived = loads(payload)
    assert arrived[9] == 9
    arrived.file.close()


@pytest.mark.parametrize("mode", ["r+", "w"])
def test_files_that_are_written_are_not_sent(hdf5: Path, mode: str) -> None:
    with h5py.File(hdf5, mode) as file:
        with pytest.raises(SerializationError, match="open with mode"):
            dumps(file)
        with pytest.raises(TypeError, match="Could not serialize object of type File"):
            serialize(file, on_error="raise")


def test_closed_files_are_not_sent(hdf5: Path, netcdf: Path) -> None:
    with h5py.File(hdf5, "r") as file:
        dataset = file["x"]
    with netCDF4.Dataset(netcdf) as netcdf_dataset:
        pass
    for closed in (dataset, netcdf_dataset):
        with pytest.raises(SerializationError, match="closed"):
            dumps(closed)


def test_datasets_groups_and_variables_of_netcdf4(netcdf: Path) -> None:
    with netCDF4.Dataset(netcdf) as dataset:
        for arrived in arrivals(dataset):
            assert arrived["x"][:].tolist() == [1, 2, 3]
            arrived.close()
        for arrived in arrivals(dataset["outer/inner"]):
            assert arrived.path == "/outer/inner"
            assert arrived["y"][:].tolist() == [1, 2, 3]
        for variable in (dataset["x"], dataset["outer/inner/y"]):
            for arrived in arrivals(variable):
                assert arrived.name == variable.name
                assert arrived[:].tolist() == [1, 2, 3]
