"""Unpickles a task's function and arguments in the thread that runs it, where several threads may import at once.

Two threads that import parts of one large package for the first time can each see the other's half: Python breaks the
deadlock between module locks by handing out unfinished modules. What failed that way succeeds when it is alone.
"""

from __future__ import annotations

import threading
from typing import Any

from headrace.protocol import loads, loads_function

_alone = threading.Lock()


def load_call(function: Any, arguments: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A task's function, positional and named arguments.

    Raises:
        Exception: whatever unpickling raises, also when it was tried again with no other retry beside it.
    """
    try:
        called = loads_function(function)
        args, kwargs = loads(arguments)
    except ModuleNotFoundError:
        raise
    except (ImportError, KeyError, AttributeError):
        with _alone:
            called = loads_function(function)
            args, kwargs = loads(arguments)
    return called, args, kwargs
