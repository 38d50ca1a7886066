"""Imports that never meet a package in the middle of its import by another thread.

A thread that imports `package.module` while another thread is importing `package` does not wait for the package: it
locks `package.module`, and begins. As soon as the module needs something of `package`, its thread waits for the other,
which may come to need `package.module`. The interpreter notices that the two wait for each other, and lets one go on
with a half-made module, which fails. The functions here wait for the package first, while they hold no lock that its
import could need.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

#: Modules that workers need for most kinds of work and do not import at their start, as dask takes a tenth of a second.
LATE = ("dask._task_spec", "headrace.protocol.functions.by_value", "headrace.protocol.culprit", "headrace.actor")
#: Those of `LATE` that clients and schedulers may need.
BY_VALUE = LATE[1:3]
#: names of modules whose import is over
imported: set[str] = set()


def import_from_outside(name: str) -> ModuleType:
    """Import a module, and before it, one after the other, the packages that it is in.

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
    """Import modules before work needs them: a process that has used up its descriptors could not load them then."""
    for name in names:
        import_from_outside(name)
