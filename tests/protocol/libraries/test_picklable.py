"""What pickles well travels without the family pickle, too."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from headrace.protocol.families import deserialize, serialize
from headrace.protocol.registered import dask_serialize

MATRICES = ["bsr_matrix", "coo_matrix", "csc_matrix", "csr_matrix", "dia_matrix", "dok_matrix", "lil_matrix"]
ARRAYS = [name.replace("matrix", "array") for name in MATRICES]


@pytest.mark.parametrize("kind", MATRICES + ARRAYS)
@pytest.mark.parametrize("dtype", [bool, float, np.int64])
def test_sparse_arrays_of_scipy(kind: str, dtype: Any) -> None:
    matrix = getattr(scipy.sparse, kind)(np.eye(5, 8).astype(dtype))
    arrived = deserialize(*serialize(matrix, ["dask"], on_error="raise"), ["dask"])
    assert type(arrived) is type(matrix)
    assert arrived.dtype == matrix.dtype
    assert (arrived.toarray() == matrix.toarray()).all()


class Tensor:
    """Stands for a class of a package that is not installed here; found by the name that it says."""

    def __init__(self, value: int) -> None:
        self.value = value


@pytest.mark.parametrize(
    ("package", "contents"),
    [
        ("torch", {"Tensor": Tensor, "nn": SimpleNamespace(Parameter=Tensor)}),
        ("keras", {"Model": Tensor}),
        ("sparse", {"COO": Tensor}),
    ],
)
def test_packages_are_known_once_something_of_them_turns_up(
    package: str, contents: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dask_serialize._lookup, Tensor, None)  # gone, with its fellows, at the end
    del dask_serialize._lookup[Tensor]
    module = ModuleType(package)
    module.__dict__.update(contents)

    class OfPackage(Tensor):
        pass

    OfPackage.__module__ = package
    registered = dict(dask_serialize._lookup)
    if package not in dask_serialize._lazy:
        pytest.fail(f"{package} is known already")
    lazy = dask_serialize._lazy[package]
    try:
        assert dask_serialize.find(OfPackage) is None  # it is not imported: it cannot be one of its classes
        assert package in dask_serialize._lazy
        monkeypatch.setitem(sys.modules, package, module)
        assert dask_serialize.find(OfPackage) is not None
    finally:
        dask_serialize._lookup.clear()
        dask_serialize._lookup.update(registered)
        dask_serialize._lazy[package] = lazy
