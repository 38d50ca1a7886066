"""Handlers and filters of logging: lines kept in memory, lines let through now and then, errors logged as they pass."""

from __future__ import annotations

import functools
import inspect
import logging
import re
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar

from headrace.config import parse_seconds


class DequeHandler(logging.Handler):
    """Keeps the latest records.

    Args:
        n: how many.

    Attributes:
        deque: the records.
    """

    _instances: ClassVar[weakref.WeakSet[DequeHandler]] = weakref.WeakSet()

    def __init__(self, *args: Any, n: int = 10000, **kwargs: Any) -> None:
        self.deque: deque[logging.LogRecord] = deque(maxlen=n)
        super().__init__(*args, **kwargs)
        self._instances.add(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.deque.append(record)

    def clear(self) -> None:
        """Forget all records."""
        self.deque.clear()

    @classmethod
    def clear_all_instances(cls) -> None:
        """Forget the records of all living handlers of this class."""
        for handler in list(cls._instances):
            handler.clear()


class RateLimiterFilter(logging.Filter):
    """Lets through at most one matching line in a period.

    Args:
        pattern: regular expression that is looked for in the message.
        name: only records of this logger and those below it, as of `logging.Filter`.
        rate: the period, in seconds or as text such as "10s".
    """

    pattern: re.Pattern[str]
    rate: float

    def __init__(self, pattern: str, *, name: str = "", rate: str | float = "10s") -> None:
        super().__init__(name)
        self.pattern = re.compile(pattern)
        self.rate = parse_seconds(rate)
        self._next = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record may pass."""
        if not super().filter(record) or not self.pattern.search(record.getMessage()):
            return True
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self.rate
        return True

    @classmethod
    def reset_timer(cls, logger: logging.Logger | str) -> None:
        """Let the next line pass the filters of this class on a logger."""
        if isinstance(logger, str):
            logger = logging.getLogger(logger)
        for one in logger.filters:
            if isinstance(one, cls):
                one._next = float("-inf")


class _ErrorLogger:
    """Logs exceptions that leave a body or a function, and lets them pass."""

    def __init__(self, module: str, pdb: bool) -> None:
        self._logger = logging.getLogger(module)
        self._pdb = pdb

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # the loop's own ways to stop a task are no errors
        if not isinstance(error, Exception) or type(error).__name__ in ("CommClosedError", "Reschedule"):
            return
        self._logger.error("%s", error, exc_info=(type(error), error, tb))
        if self._pdb:
            import pdb

            pdb.set_trace()

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(func):

            @functools.wraps(func)
            async def wrapped(*args: object, **kwargs: object) -> object:
                with self:
                    return await func(*args, **kwargs)

        else:

            @functools.wraps(func)
            def wrapped(*args: object, **kwargs: object) -> object:
                with self:
                    return func(*args, **kwargs)

        return wrapped


def log_errors(func: Callable[..., Any] | None = None, /, *, pdb: bool = False, unroll_stack: int = 0) -> Any:
    """Log exceptions that leave a function or a body, and let them pass.

    As a decorator (`@log_errors`, `@log_errors()`) or as a context manager (`with log_errors():`).

    Args:
        pdb: enter the debugger then.
        unroll_stack: how many callers further out the module is that names the logger.
    """
    if func is not None:
        return _ErrorLogger(func.__module__, pdb)(func)
    return _ErrorLogger(sys._getframe(1 + unroll_stack).f_globals.get("__name__", "distributed"), pdb)


@contextmanager
def silence_logging_cmgr(level: str | int, root: str = "distributed") -> Iterator[None]:
    """Raise the level of a logger's stream handlers while the body runs.

    Args:
        level: number, or name such as "ERROR".
        root: name of the logger.
    """
    number = getattr(logging, level.upper()) if isinstance(level, str) else level
    handlers = [one for one in logging.getLogger(root).handlers if isinstance(one, logging.StreamHandler)]
    before = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(max(number, handler.level))
    try:
        yield
    finally:
        for handler, old in zip(handlers, before, strict=True):
            handler.setLevel(old)


def reset_logger_locks() -> None:
    """Give the handlers of all loggers new locks, for a process whose parent may have held them when it forked."""
    for name in list(logging.Logger.manager.loggerDict):
        for handler in logging.getLogger(name).handlers:
            handler.createLock()
