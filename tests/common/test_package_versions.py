"""What differs between the parts of a cluster."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

import distributed
from headrace.common.package_versions import error_message, get_package_info, get_versions


def running(**packages: Any) -> dict[str, Any]:
    return {"host": {}, "packages": packages}


def test_further_packages() -> None:
    found = get_versions(["ruff", ("no-such-package", None)])["packages"]
    assert found["no-such-package"] is None
    assert {"python", "dask", "ruff"} <= found.keys()
    assert set(get_package_info(["dask"])) == {"python", "dask"}
    assert get_package_info([])["python"] == ".".join(map(str, sys.version_info))
    assert found["distributed"] == distributed.__version__ == version("distributed")


def test_no_difference() -> None:
    same = running(python="3.11.7", dask="1")
    assert error_message(same, {"w": same}, same) == {"warning": "", "error": ""}


def rows(message: dict[str, str]) -> dict[str, list[str]]:
    """The cells of the table in a message, by package."""
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in message["warning"].splitlines() if "|" in line
    ]
    return {cells[0]: cells[1:] for cells in lines}


def test_differences_are_named() -> None:
    message = error_message(
        running(python="3.11", dask="1"),
        {"w0": running(python="3.11", dask="1"), "w1": running(python="3.12", dask="1")},
        running(python="3.11", dask="1", numpy="2"),
        "Notebook",
    )
    assert message["warning"].startswith("Mismatched versions found")
    assert rows(message) == {
        "Package": ["Notebook", "Scheduler", "Workers"],
        "python": ["3.11", "3.11", "{'3.11', '3.12'}"],
        "numpy": ["2", "MISSING", "MISSING"],
    }


def test_a_part_that_did_not_tell() -> None:
    same = running(python="3.11")
    assert rows(error_message(None, {"w": same}, same))["python"] == ["3.11", "UNKNOWN", "3.11"]
    assert rows(error_message(same, {"w": None}, same))["python"] == ["3.11", "3.11", "UNKNOWN"]
    assert rows(error_message(same, {"w": same}, {"packages": "none"}))["python"] == ["UNKNOWN", "3.11", "3.11"]


def test_the_scheduler_needs_no_libraries_of_values() -> None:
    same = running(numpy="2")
    assert not error_message(running(numpy="1"), {"w": same}, same)["warning"]
    assert not error_message(running(), {"w": same}, same)["warning"]
