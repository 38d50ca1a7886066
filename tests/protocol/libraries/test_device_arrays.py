"""Objects on GPUs, by way of make-believe packages whose devices are this machine's memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from headrace.protocol.families import deserialize, serialize
from headrace.protocol.registered import (
    cuda_deserialize,
    cuda_serialize,
    dask_deserialize,
    dask_serialize,
)

REGISTRIES = (dask_serialize, dask_deserialize, cuda_serialize, cuda_deserialize)


class DeviceArray:
    """An array on a device that is none."""

    def __init__(self, host: Any) -> None:
        self.host = host

    def copy_to_host(self) -> Any:
        return self.host

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return dict(self.host.__array_interface__)


def from_device(described: Any) -> DeviceArray:
    interface = described.__cuda_array_interface__

    class Host:
        __array_interface__ = interface
        keep = described

    return DeviceArray(np.asarray(Host()))


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules of these names, which are forgotten at the end, with all that was registered for them."""
    before = [(dict(one._lookup), dict(one._lazy)) for one in REGISTRIES]
    cupy = ModuleType("cupy")
    of_cupy = type("ndarray", (DeviceArray,), {"__module__": "cupy"})

    def asarray(value: Any) -> Any:
        return of_cupy(value if isinstance(value, np.ndarray) else from_device(value).host)

    cupy.__dict__.update(ndarray=of_cupy, asnumpy=lambda array: array.host, asarray=asarray)
    numba, devicearray = ModuleType("numba"), ModuleType("numba.cuda.cudadrv.devicearray")
    of_numba = type("DeviceNDArray", (DeviceArray,), {"__module__": devicearray.__name__})
    cuda = ModuleType("numba.cuda")
    cuda.__dict__.update(to_device=of_numba, as_cuda_array=lambda array: of_numba(from_device(array).host))
    numba.__dict__.update(cuda=cuda)
    devicearray.__dict__.update(DeviceNDArray=of_numba)
    rmm = ModuleType("rmm")
    buffer = type("DeviceBuffer", (DeviceArray,), {"__module__": "rmm", "to_device": staticmethod(lambda x: buffer(x))})
    rmm.__dict__.update(DeviceBuffer=buffer)
    for module in (cupy, numba, cuda, devicearray, rmm):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    yield
    for one, (lookup, lazy) in zip(REGISTRIES, before, strict=True):
        one._lookup.clear()
        one._lookup.update(lookup)
        one._lazy.update(lazy)


@pytest.mark.parametrize("family", ["dask", "cuda"])
@pytest.mark.parametrize(
    ("package", "name"), [("cupy", "ndarray"), ("numba.cuda.cudadrv.devicearray", "DeviceNDArray")]
)
def test_arrays(family: str, package: str, name: str, packages: None) -> None:
    value = getattr(sys.modules[package], name)(np.arange(12.0).reshape(3, 4)[:, ::2])
    header, frames = serialize(value, [family], on_error="raise")
    assert header["serializer"] == family
    assert (frames[0] is value) == (family == "cuda")
    arrived = deserialize(header, frames, [family])
    assert type(arrived) is type(value)
    assert arrived.host.tolist() == value.host.tolist()


@pytest.mark.parametrize("family", ["dask", "cuda"])
def test_buffers(family: str, packages: None) -> None:
    value = sys.modules["rmm"].DeviceBuffer(np.arange(5, dtype="u1"))
    header, frames = serialize(value, [family], on_error="raise")
    arrived = deserialize(header, frames, [family])
    assert type(arrived) is type(value)
    assert bytes(arrived.host) == bytes(range(5))


def test_packages_that_register_themselves(packages: None, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = type("DataFrame", (), {"__module__": "cudf"})
    monkeypatch.setitem(sys.modules, "cudf", ModuleType("cudf"))
    monkeypatch.setitem(sys.modules, "cudf.comm", ModuleType("cudf.comm"))
    monkeypatch.setitem(sys.modules, "cudf.comm.serialize", ModuleType("cudf.comm.serialize"))
    cuda_serialize._lookup[frame] = lambda value: ({"of": "cudf"}, [])
    header, _ = serialize(frame(), ["cuda"], on_error="raise")
    assert header["sub-header"] == {"of": "cudf"}
    assert "cudf" in dask_serialize._lazy
    assert dask_serialize.find(frame) is None
    assert "cudf" not in dask_serialize._lazy
