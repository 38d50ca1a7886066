"""The latest lines of a server's log, kept for `get_logs` whether or not any handler shows them.

A tap keeps a logger open for lines of level INFO, and withholds from its handlers the lines that they would not have
got without the tap. It keeps text: a record itself holds its arguments and, with an exception, all frames of the
traceback.
"""

from __future__ import annotations

import logging
from collections import deque
from types import TracebackType
from typing import Any, TypeAlias

from headrace import config

#: The level of a tapped logger. If a logger has another level, the user has set it, and wants to see its lines.
OPEN = logging.INFO - 1

#: Characters of a message, and of a traceback, that are kept.
LONGEST_TEXT = 32 * 1024
_PLAIN = frozenset({str, int, float, bool, type(None)})
_formatter = logging.Formatter()
#: `LogRecord.exc_info` of a record that has it.
_ExceptionInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

DEFAULT_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"


def as_text(record: logging.LogRecord) -> logging.LogRecord:
    """A copy of a record that holds only text and numbers."""
    values = {name: value for name, value in record.__dict__.items() if type(value) in _PLAIN}
    try:
        message = record.getMessage()
    except Exception as error:  # the logger's handlers report the fault themselves
        message = f"{record.msg!s:.1000} (cannot be formatted: {type(error).__name__})"
    values.update(msg=_cut(message), args=None, exc_info=None)
    if record.exc_info and not record.exc_text:
        values["exc_text"] = _traceback_text(record.exc_info)
    if values.get("exc_text"):
        values["exc_text"] = _cut(values["exc_text"])
    return logging.makeLogRecord(values)


def _traceback_text(exc_info: _ExceptionInfo) -> str:
    try:
        return _formatter.formatException(exc_info)
    except Exception as error:  # of the user's `__str__`
        return f"{exc_info[0]} (cannot be shown: {type(error).__name__})"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text) - LONGEST_TEXT} more characters)"


class _Tap(logging.Filter):
    """Hands a logger's records to the objects that keep them."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.keepers: list[LogLines] = []
        self._logger = logger
        self._before = logging.NOTSET

    def attach(self, keeper: LogLines) -> None:
        if not self._logger.isEnabledFor(logging.INFO):  # at first, or if the user has set the level since
            self._before = self._logger.level
            self._logger.setLevel(OPEN)
        if not self.keepers:
            self._logger.addFilter(self)
        self.keepers.append(keeper)

    def detach(self, keeper: LogLines) -> None:
        if keeper in self.keepers:
            self.keepers.remove(keeper)
            if not self.keepers:
                self._logger.removeFilter(self)
                if self._logger.level == OPEN:
                    self._logger.setLevel(self._before)

    def filter(self, record: logging.LogRecord) -> bool:
        kept = as_text(record)
        for keeper in self.keepers:
            keeper.records.append(kept)
        return self._logger.level != OPEN or record.levelno >= self._level_without()

    def _level_without(self) -> int:
        """The level from which on handlers would get records without this tap."""
        parent = self._logger.parent
        return self._before or (parent.getEffectiveLevel() if parent is not None else logging.WARNING)


_taps: dict[str, _Tap] = {}


class LogLines:
    """Keeps the latest records of a logger.

    Args:
        name: the logger's.
        length: number of records to keep; by default `distributed.admin.log-length`.
        text_format: format of their lines; by default `distributed.admin.log-format`.
    """

    def __init__(self, name: str, length: int | None = None, text_format: str | None = None) -> None:
        if length is None:
            length = int(config.get("distributed.admin.log-length", 10_000))
        self.records: deque[logging.LogRecord] = deque(maxlen=length)
        self._name = name
        self._formatter = logging.Formatter(text_format or config.get("distributed.admin.log-format", DEFAULT_FORMAT))

    def start(self) -> None:
        """Begin to keep records."""
        if self._name not in _taps:
            _taps[self._name] = _Tap(logging.getLogger(self._name))
        _taps[self._name].attach(self)

    def stop(self) -> None:
        """Keep no further records; those kept so far stay."""
        if self._name in _taps:
            _taps[self._name].detach(self)

    def lines(self, start: float = 0, n: int | None = None, timestamps: bool = False) -> list[tuple[Any, ...]]:
        """The latest lines, newest first, as (level, text); with `timestamps`, as (seconds, level, text).

        Args:
            start: only lines since this time, in seconds since the epoch.
            n: at most so many lines.
        """
        found: list[tuple[Any, ...]] = []
        for record in reversed(list(self.records)):
            if record.created < start or (n is not None and len(found) >= n):
                break
            line = (record.levelname, self._formatter.format(record))
            found.append((record.created, *line) if timestamps else line)
        return found


def silence(logger: logging.Logger, level: int | str | None) -> None:
    """Let a logger drop lines below a level, unless the logger above it does so already.

    A cluster silences the loggers of the user's process while it lives; its servers there must not do so for good.
    """
    if level:
        number = logging.getLevelNamesMapping()[level.upper()] if isinstance(level, str) else level
        if logger.parent is None or logger.parent.getEffectiveLevel() < number:
            logger.setLevel(number)
