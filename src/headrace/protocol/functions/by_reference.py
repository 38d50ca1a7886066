"""Functions and classes that are pickled by reference: as the name that another process imports them by."""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Callable

#: Names of modules that an uploaded file has replaced in this process. Functions that were taken from there before are
#: still pickled as their names: whoever uploads a new version, to a cluster in this process too, means that one.
replaced_modules: set[str] = set()
#: Modules that the user registered with `cloudpickle.register_pickle_by_value`, once anybody has imported cloudpickle.
registered: set[str] | None = None


def is_by_reference(value: object) -> bool:
    """Whether a function or class is pickled as the name that another process imports it by."""
    module_name, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if type(module_name) is not str or type(name) is not str or module_name == "__main__":
        return False
    found: object = sys.modules.get(module_name)
    if found is None:
        return False
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        return False
    if found is not value and not (module_name in replaced_modules and type(found) is type(value)):
        return False
    return not is_registered_by_value(module_name)


def has_lost_its_name(value: Callable[..., object]) -> bool:
    """Whether the module of a function or class was replaced, so that another one has its name now."""
    return value.__module__ in replaced_modules and is_by_reference(value)


def registered_by_value() -> set[str]:
    """Names of the modules whose functions and classes the user wants pickled by value."""
    global registered
    if registered is None:
        registered = getattr(sys.modules.get("cloudpickle.cloudpickle"), "_PICKLE_BY_VALUE_MODULES", None)
    return registered or set()


def is_registered_by_value(module_name: str) -> bool:
    """Whether a module, or a package that it is in, was registered."""
    names = registered_by_value()
    return bool(names) and any(module_name == name or module_name.startswith(f"{name}.") for name in names)


def is_pickled_by_name(kind: type, value: object) -> bool:
    reduce = copyreg.dispatch_table.get(kind)
    return type(reduce(value) if reduce else value.__reduce_ex__(4)) is str
