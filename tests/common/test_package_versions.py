"""What differs between the parts of a cluster."""

from __future__ import annotations

from typing import Any

from headrace.common.package_versions import error_message, get_package_info, get_versions


def running(**packages: Any) -> dict[str, Any]:
    return {"host": {}, "packages": packages}


def test_further_packages() -> None:
    found = get_versions(["ruff", ("no-such-package", None)])["packages"]
    assert found["no-such-package"] is None
    assert {"python", "dask", "ruff"} <= found.keys()
    assert set(get_package_info(["dask"])) == {"python", "dask"}


def test_no_difference() -> None:
    same = running(python="3.11.7", dask="1")
    assert error_message(same, {"w": same}, same) == {"warning": "", "error": ""}


def test_differences_are_named() -> None:
    message = error_message(
        running(python="3.11", dask="1"),
        {"w0": running(python="3.11", dask="1"), "w1": running(python="3.12", dask="1")},
        running(python="3.11", dask="1", numpy="2"),
        "Notebook",
    )["warning"]
    assert "python: Notebook 3.11; Scheduler 3.11; Workers 3.11, 3.12" in message
    assert "numpy: Notebook 2; Scheduler None; Workers None" in message
    assert "dask" not in message
