"""Results that refer weakly to something: they are worth nothing once the call that made them is gone.

A function may return `weakref.proxy(x)` where `x` is an argument, or is kept by the function's closure. What was loaded
for the call is dropped after it; for such a result it is kept as long as the result is in memory. Only a result that is
a weak reference, or a small built-in container of some, counts: looking into every object would cost every task.
"""

from __future__ import annotations

from typing import Any
from weakref import (
    CallableProxyType,
    ProxyType,
    ReferenceType,
    WeakKeyDictionary,
    WeakMethod,
    WeakSet,
    WeakValueDictionary,
    finalize,
)

from headrace.containment import let_pass

_WEAK: frozenset[type] = frozenset(
    {
        CallableProxyType, ProxyType, ReferenceType, WeakKeyDictionary, WeakMethod, WeakSet, WeakValueDictionary,
        finalize,
    }
)  # fmt: skip
_SEQUENCES: frozenset[type] = frozenset({list, tuple, set, frozenset})
#: Longer containers are not looked through.
_SMALL = 10


def refers_weakly(value: Any) -> bool:
    """Whether a result is a weak reference, or a small container that holds one; never raises."""
    try:
        kind = type(value)
        if kind in _WEAK:
            return True
        if kind is dict:
            value = value.values()
        elif kind not in _SEQUENCES:
            return False
        return len(value) <= _SMALL and not _WEAK.isdisjoint(map(type, value))
    except BaseException as raised:  # of a class that cannot be hashed
        let_pass(raised)
        return False
