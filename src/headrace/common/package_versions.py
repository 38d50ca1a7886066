"""Versions of Python and of the packages on which scheduler, workers and clients must agree."""

from __future__ import annotations

import os
import platform
import struct
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .display.text_table import asciitable
from .interface_version import API_VERSION

#: Packages of which different versions cannot work together, and those of which they may not.
REQUIRED = ("dask", "distributed", "headrace", "msgspec", "cloudpickle", "toolz")
OPTIONAL = ("numpy", "pandas", "pyarrow", "lz4", "zstandard", "uvloop")
#: What the scheduler must share with others: it never loads values, so that it can do without the rest.
WITH_SCHEDULER = frozenset({"python", *REQUIRED, "lz4", "zstandard"})


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
    return {"python": ".".join(map(str, sys.version_info)), **{name: _version(name) for name in pkgs}}


@lru_cache(maxsize=1000)
def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except (PackageNotFoundError, ValueError):
        return None


def _version(name: str) -> str | None:
    if name == "distributed":
        return API_VERSION
    found = _installed_version(name)
    if found is None:  # a module of another name than its distribution's
        found = getattr(sys.modules.get(name), "__version__", None)
    return None if found is None else str(found)


def get_system_info() -> dict[str, Any]:
    """The interpreter, operating system and machine of this process."""
    return {
        "python": ".".join(map(str, sys.version_info)),
        "python-bits": struct.calcsize("P") * 8,
        "OS": platform.system(),
        "OS-release": platform.release(),
        "machine": platform.machine(),
        "processor": platform.processor(),
        "byteorder": sys.byteorder,
        "LC_ALL": os.environ.get("LC_ALL", "None"),
        "LANG": os.environ.get("LANG", "None"),
    }


def error_message(
    scheduler: Mapping[str, Any] | None,
    workers: Mapping[str, Mapping[str, Any] | None],
    source: Mapping[str, Any] | None,
    source_name: str = "Client",
) -> dict[str, str]:
    """A text that lists the packages of which the parts of a cluster have different versions.

    Args:
        scheduler, workers, source: as `get_versions` returns them; those of workers by address; None for a part that
            did not tell.
        source_name: the name of `source` in the text.

    Returns:
        `{"warning": a text with a table, or "" if all agree, "error": ""}`
    """
    told = [_packages(source), _packages(scheduler)]
    others = [_packages(worker) for worker in workers.values()]
    names = sorted(set().union(*[known for known in (*told, *others) if known is not None]))
    rows = []
    for name in names:
        here, there = (_told(known, name) for known in told)
        at_workers = sorted({_told(known, name) for known in others})
        seen = {here, *at_workers} | ({there} if name in WITH_SCHEDULER else set())
        if len(seen) > 1:
            of_workers = at_workers[0] if len(at_workers) == 1 else "{" + ", ".join(map(repr, at_workers)) + "}"
            rows.append([name, here, there, of_workers])
    table = asciitable(["Package", source_name, "Scheduler", "Workers"], rows)
    return {"warning": f"Mismatched versions found\n\n{table}" if rows else "", "error": ""}


def _packages(versions: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The packages that a part has told of; None if it has told nothing that makes sense."""
    packages = versions.get("packages") if isinstance(versions, Mapping) else None
    return packages if isinstance(packages, Mapping) else None


def _told(packages: Mapping[str, Any] | None, name: str) -> str:
    return "UNKNOWN" if packages is None else str(packages.get(name, "MISSING"))
