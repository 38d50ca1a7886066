"""Public names of a package that are loaded when they are first used: the import of a pure part brings in no shell."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

#: Stands for an attribute that is not there.
_ABSENT = object()


class PackageModule(ModuleType):
    """A base for modules with a class of their own. Pickles them by name: cloudpickle only knows plain modules."""

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return import_module, (self.__name__,)


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a package. A name that was used once is an ordinary attribute from then on.

    Args:
        package: its `__name__`.
        homes: the module of each public name, relative to the package if it begins with a dot.
    """

    def load(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home, package), name)
        setattr(sys.modules[package], name, value)
        return value

    return load


def names_before(package: str, home: str, own: Mapping[str, str] | None = None) -> Callable[[str], Any]:
    """A `__getattr__` for a package of public modules that stands before another and has that one's names as well.

    The logger of the public name is its `logger`, unless the other package has one.

    Args:
        package: its `__name__`.
        home: the other package, which has the names, and the modules that the first one lacks.
        own: names that are the first one's, with the modules that have them, as `lazy_names` takes them.
    """
    own = own or {}
    load_own = lazy_names(package, own)

    def load(name: str) -> Any:
        if name == "__all__":  # asked for by `from X import *`
            return sorted({*own, *_public_names(package, home)})
        if name in own:
            return load_own(name)
        if name.startswith("__"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(home), name, _ABSENT)
        if found is not _ABSENT and not isinstance(found, ModuleType):
            return found
        for parent in (package, home):
            try:
                return import_module(f"{parent}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{parent}.{name}":
                    raise
        if found is not _ABSENT:
            return found
        public = ".".join(["distributed", *package.split(".")[2:]])  # below headrace.compat
        if name == "logger":
            return logging.getLogger(public)
        raise AttributeError(f"module {public!r} has no attribute {name!r}")

    return load


def _public_names(package: str, home: str) -> list[str]:
    """The names of a star import: those of the package itself, and those of the one that it stands before."""
    theirs = import_module(home)
    names = {*getattr(theirs, "__all__", vars(theirs)), *vars(sys.modules[package])}
    return sorted(name for name in names if not name.startswith("_"))
