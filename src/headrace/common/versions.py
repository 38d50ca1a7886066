"""Versions of Python and of the packages on which scheduler, workers and clients must agree."""

from __future__ import annotations

import platform
import struct
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

#: Packages whose difference breaks things, and those whose difference may.
REQUIRED = ("dask", "headrace", "msgspec", "cloudpickle")
OPTIONAL = ("numpy", "pandas", "pyarrow", "lz4", "zstandard", "uvloop")


def get_versions() -> dict[str, Any]:
    """This process's host and package versions; a package that is absent is `None`."""
    packages: dict[str, str | None] = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in REQUIRED + OPTIONAL:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    host = {
        "python": sys.version,
        "python-bits": struct.calcsize("P") * 8,
        "OS": platform.system(),
        "OS-release": platform.release(),
        "machine": platform.machine(),
        "byteorder": sys.byteorder,
    }
    return {"host": host, "packages": packages}
