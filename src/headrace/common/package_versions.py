"""Versions of Python and of the packages on which scheduler, workers and clients must agree."""

from __future__ import annotations

import platform
import struct
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

#: Packages of which different versions cannot work together, and those of which they may not.
REQUIRED = ("dask", "headrace", "msgspec", "cloudpickle")
OPTIONAL = ("numpy", "pandas", "pyarrow", "lz4", "zstandard", "uvloop")


class VersionMismatchWarning(Warning):
    """Parts of a cluster run different versions."""


def get_versions(packages: Iterable[Any] | None = None) -> dict[str, Any]:
    """Facts about this process's host, and the versions of packages in it; None for a package that is absent.

    Args:
        packages: names of further packages, or tuples that begin with a name.
    """
    further = [name if isinstance(name, str) else name[0] for name in packages or ()]
    return {"host": get_system_info(), "packages": get_package_info([*REQUIRED, *OPTIONAL, *further])}


def get_package_info(pkgs: Iterable[str]) -> dict[str, str | None]:
    """Versions of Python and of these packages by name; None for one that is absent."""
    found: dict[str, str | None] = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in pkgs:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def get_system_info() -> dict[str, Any]:
    """The interpreter, operating system and machine of this process."""
    return {
        "python": sys.version,
        "python-bits": struct.calcsize("P") * 8,
        "OS": platform.system(),
        "OS-release": platform.release(),
        "machine": platform.machine(),
        "byteorder": sys.byteorder,
    }


def error_message(
    scheduler: Mapping[str, Any],
    workers: Mapping[str, Mapping[str, Any]],
    source: Mapping[str, Any],
    source_name: str = "Client",
) -> dict[str, str]:
    """A text that lists the packages of which the parts of a cluster have different versions.

    Args:
        scheduler, workers, source: as `get_versions` returns them; those of workers by address.
        source_name: the name of `source` in the text.

    Returns:
        `{"warning": a text, or "" if all agree, "error": ""}`
    """
    places = {source_name: [source], "Scheduler": [scheduler], "Workers": list(workers.values())}
    told = {place: [dict(each.get("packages") or {}) for each in found] for place, found in places.items()}
    names = dict.fromkeys(name for found in told.values() for packages in found for name in packages)
    lines = []
    for name in sorted(names):
        seen = {place: {str(packages.get(name)) for packages in found} for place, found in told.items() if found}
        if len(set().union(*seen.values())) > 1:
            lines.append(f"{name}: " + "; ".join(f"{place} {', '.join(sorted(each))}" for place, each in seen.items()))
    return {"warning": "\n".join(["Mismatched versions found", *lines]) if lines else "", "error": ""}
