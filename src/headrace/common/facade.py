"""Public names of a package that are loaded when they are used, so that importing a pure part brings in no shell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


class PackageModule(ModuleType):
    """A base of modules with a class of their own, which cloudpickle does not know for modules: by name, as those."""

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return import_module, (self.__name__,)


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package; a name that was used once is an ordinary attribute from then on.

    Args:
        package: its `__name__`.
        homes: per public name, the module that has it; relative to the package if it begins with a dot.
    """

    def load(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home, package), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
