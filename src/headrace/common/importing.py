"""Imports that never meet a package in the middle of its import by another thread.

Who imports `package.module` while another thread is importing `package` does not wait for that: it locks
`package.module`, and begins. As soon as this needs something of `package`, it waits for the other thread, which may
come to need `package.module`. The interpreter notices that the two wait for each other, and lets one go on with a
half-made module, which fails. Here the package is waited for first, while nothing is locked that its import could need.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

#: What workers need for most kinds of work and do not have from the start, since dask takes a tenth of a second.
LATE = ("dask._task_spec", "headrace.protocol.functions.by_value", "headrace.protocol.culprit", "headrace.actor")
#: Of these, what clients and schedulers may need.
BY_VALUE = LATE[1:3]
#: names of modules whose import is over
imported: set[str] = set()


def import_from_outside(name: str) -> ModuleType:
    """Import a module; if it is not there yet, one after another the packages that it is in before it.

    Raises:
        ImportError: there is no such module, or it cannot be imported.
    """
    if name not in sys.modules:
        end = name.find(".")
        while end > 0:
            import_module(name[:end])
            end = name.find(".", end + 1)
    module = import_module(name)
    imported.add(name)
    return module


def import_late(names: tuple[str, ...] = LATE) -> None:
    """Import what would be imported with work: a process that has used up its descriptors cannot load anything."""
    for name in names:
        import_from_outside(name)
