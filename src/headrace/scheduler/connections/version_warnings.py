"""What a client is told when it registers, if packages that must agree are of other versions elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from headrace.common.package_versions import error_message, get_package_info

#: Characters of such a text: versions are what workers and clients say.
LONGEST = 2000


@lru_cache
def _here(names: tuple[str, ...]) -> dict[str, str | None]:
    return get_package_info(names)


def mismatch(client: Mapping[str, Any] | None, workers: Iterable[Mapping[str, Any]]) -> str:
    """A text about versions that differ; empty if all agree.

    Args:
        client: versions by package that the client has told; None for one that it has not loaded.
        workers: as `get_versions` returns them.
    """
    told = {name: value for name, value in (client or {}).items() if isinstance(value, str)}
    if not told:
        return ""
    here = _here(tuple(sorted(name for name in told if name != "python")))
    known = [packages for each in workers if isinstance(packages := each.get("packages"), Mapping)]
    if here == told and all(packages.get(name) == value for packages in known for name, value in told.items()):
        return ""
    others = {
        str(number): {"packages": {name: packages[name] for name in told if name in packages}}
        for number, packages in enumerate(known)
    }
    return error_message({"packages": here}, others, {"packages": told})["warning"][:LONGEST]
