"""`distributed.protocol`: `headrace.protocol`, but for `dumps` and `loads`, which make and take lists of frames there.

Headrace's own functions of these names, which make one payload, are the inside's. Modules below are the same objects.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from headrace import protocol
from headrace.common.facade import PackageModule
from headrace.compat.protocol.core import dumps as dumps
from headrace.compat.protocol.core import loads as loads

__all__ = sorted({*protocol.__all__, "dumps", "loads"})


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(protocol, name)
    except AttributeError:
        try:
            return import_module(f"headrace.protocol.{name}")
        except ModuleNotFoundError:
            raise AttributeError(f"module 'distributed.protocol' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return __all__


class _Package(PackageModule):
    """Keeps `serialize` the function when the module of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in __all__):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
