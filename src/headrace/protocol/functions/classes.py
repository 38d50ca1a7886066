"""Classes that are pickled by value: what becomes of a class that is here already when a pickle of it is loaded.

Such a class is one in all of a process: cloudpickle numbers it, and finds it again by its number. What came in an
earlier pickle takes over all that a later one says. But a class that was defined here is the user's own, and only its
owner changes it: the result of a task, or a task in this process, would take back what the user has changed since, and
exchange its methods for copies that see other globals.
"""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakSet

from cloudpickle import cloudpickle

from .frozen import ATOMS
from .shareable import loading

#: The user's own classes, of which there are pickles.
_own: WeakSet[type] = WeakSet()
#: Those that came in pickles.
_from_elsewhere: WeakSet[type] = WeakSet()
_MISSING = object()


def note_pickled(kind: type) -> None:
    """Note that a class is pickled by value in this process."""
    if kind not in _from_elsewhere:
        _own.add(kind)


def set_class_state(kind: type, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Give a class the attributes that a pickle has of it; called when that is loaded."""
    if kind not in _own:
        _from_elsewhere.add(kind)
        cloudpickle._class_setstate(kind, state)
    elif getattr(loading, "function", False):
        _set_back(kind, state[0], also_atoms=False)


def set_changed_class_state(kind: type, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Give a class its attributes, if it was reached from code that sets attributes of others than `self`."""
    set_class_state(kind, state)
    if kind in _own and getattr(loading, "function", False):
        _set_back(kind, state[0], also_atoms=True)


def _set_back(kind: type, attributes: dict[str, Any], also_atoms: bool) -> None:
    """Set the data of a class back to what was sent with a function, as far as tasks in this process may change it.

    That takes back, too, what the user has changed since. So it is done only where tasks do change something.

    Args:
        also_atoms: whether also what cannot change itself: a task may have put it there.
    """
    found = vars(kind)
    for name, value in attributes.items():
        if callable(value) or hasattr(type(value), "__get__") or (type(value) in ATOMS and not also_atoms):
            continue
        made_by_python = name == "_abc_impl" or (name.startswith("__") and name.endswith("__"))
        if not made_by_python and not _is_equal(found.get(name, _MISSING), value):
            setattr(kind, name, value)


def _is_equal(one: object, other: object) -> bool:
    """Whether a value need not be exchanged for another; as it is, it may also be what the user has elsewhere."""
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # arrays, and what the user wrote
        return False


def _disown() -> None:
    """In a forked process, the owner of the classes is another one."""
    _from_elsewhere.update(_own)
    _own.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)
