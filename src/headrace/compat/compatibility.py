"""`distributed.compatibility`: the operating system, and how programs run their event loops."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from headrace.rpc import PeriodicCallback

T = TypeVar("T")

LINUX = sys.platform == "linux"
MACOS = sys.platform == "darwin"
WINDOWS = sys.platform == "win32"

#: Levels of loggers by name, and names by level.
logging_names: dict[str | int, int | str] = {}
for _name, _level in logging.getLevelNamesMapping().items():
    logging_names[_name] = _level
    logging_names.setdefault(_level, logging.getLevelName(_level))


def asyncio_run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool = False,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """The result of a coroutine, which is run as `asyncio.run` does.

    Args:
        loop_factory: makes the loop, such as `distributed.config.get_loop_factory()`.

    Raises:
        RuntimeError: an event loop runs in this thread already.
    """
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


__all__ = ["LINUX", "MACOS", "WINDOWS", "PeriodicCallback", "asyncio_run", "logging_names"]
