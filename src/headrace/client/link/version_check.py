"""Versions of Python and of packages that run here, and whether those elsewhere agree."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterable, Mapping
from typing import Any

#: Packages that must be the same everywhere, or pickles may not load.
REQUIRED = ("dask", "msgspec", "cloudpickle")
OPTIONAL = ("numpy", "pandas", "pyarrow", "lz4", "toolz")


def own_versions(packages: Iterable[Any] = ()) -> dict[str, Any]:
    """Versions in this process: `{"host": {…}, "packages": {name: version or None}}`.

    Args:
        packages: further names.
    """
    names = [*REQUIRED, *OPTIONAL, *(name if isinstance(name, str) else name[0] for name in packages)]
    found: dict[str, str | None] = {"python": _python(), "headrace": _version("headrace")}
    found.update({name: _version(name) for name in names})
    host = {
        "python": _python(),
        "python-bits": 64 if sys.maxsize > 2**32 else 32,
        "OS": platform.system(),
        "OS-release": platform.release(),
        "machine": platform.machine(),
        "processor": platform.processor(),
        "byteorder": sys.byteorder,
    }
    return {"host": host, "packages": found}


def handshake_versions() -> dict[str, Any]:
    """The few versions that a client tells the scheduler when it registers; imports nothing that is not loaded."""
    return {
        "python": _python(),
        **{name: getattr(sys.modules.get(name), "__version__", None) for name in REQUIRED},
    }


def difference(versions: Mapping[str, Any]) -> str:
    """Differences between client, scheduler and workers in packages that must agree, as text; empty if none."""
    here = versions["client"]["packages"]
    others = {"scheduler": versions["scheduler"], **versions["workers"]}
    lines = []
    for name in ("python", *REQUIRED):
        wrong = {
            place: told["packages"].get(name)
            for place, told in others.items()
            if isinstance(told, Mapping) and told.get("packages", {}).get(name) != here.get(name)
        }
        if wrong:
            lines.append(f"{name}: {here.get(name)} here, " + ", ".join(f"{v} at {p}" for p, v in wrong.items()))
    return "Mismatched versions found\n" + "\n".join(lines) if lines else ""


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _version(name: str) -> str | None:
    try:
        module = sys.modules.get(name) or importlib.import_module(name)
    except ImportError:
        return None
    return str(getattr(module, "__version__", "unknown"))
