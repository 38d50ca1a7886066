"""Unpickles a task's function and arguments in the thread that runs it, where several threads may import at once.

Threads that import parts of one large package for the first time can wait for each other's module locks: Python ends
that deadlock with an error in one of them, or shows it an unfinished package. Alone, the same succeeds.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from headrace.messages.base import Payload
from headrace.protocol import loads, loads_function

_alone = threading.Lock()

#: Seconds between tries while other threads import what this one needs: six in all, for large packages.
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.0)

#: Failures that stood when tried again, as text: they are not the other threads' doing, and not tried again.
_stood: set[str] = set()


def load_call(function: Payload, arguments: Payload) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A task's function, positional and named arguments.

    Raises:
        Exception: whatever unpickling raises, also when it was tried again with no other retry beside it.
    """
    try:
        called = loads_function(function)
        args, kwargs = loads(arguments)
        return called, args, kwargs
    except ModuleNotFoundError:
        raise
    except (ImportError, KeyError, AttributeError, RuntimeError) as error:
        if repr(error) in _stood:
            raise
        with _alone:
            return _load_again(function, arguments)


def _load_again(function: Payload, arguments: Payload) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    for number, pause in enumerate(PAUSES):
        time.sleep(pause)
        try:
            return _load(function, arguments)
        except (ImportError, KeyError, AttributeError, RuntimeError) as error:
            if _is_deadlock(error):
                continue
            if number >= 3:
                if len(_stood) < 1000:
                    _stood.add(repr(error))
                raise
    return _load(function, arguments)


def _load(function: Payload, arguments: Payload) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    called = loads_function(function)
    args, kwargs = loads(arguments)
    return called, args, kwargs


def _is_deadlock(error: BaseException | None) -> bool:
    """Whether Python ended a deadlock of imports in this thread (the class is private), whatever it is wrapped in."""
    while error is not None:
        if type(error).__name__ == "_DeadlockError":
            return True
        error = error.__cause__ or error.__context__
    return False
