"""The user's frames from which work is submitted, for `Computation.code` (`distributed.diagnostics.computations`).

Off by default (`nframes: 0`). Graphs and maps look at the configuration when they are submitted; single calls go by
what it said when the client was made, because nothing per task may read it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import FrameType

from headrace import config
from headrace.common.source_code import SourceCode

_SECTION = "distributed.diagnostics.computations"
#: Frames of our own code say nothing about the user's, whatever is configured.
_OURS = ("headrace",)


def frames_wanted() -> int:
    """The number of frames that the configuration asks for.

    Raises:
        TypeError: it is not a number.
    """
    number = config.get(f"{_SECTION}.nframes", 0)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{_SECTION}.nframes must be an int, not {number!r}")
    return number


def calling_code(nframes: int) -> list[tuple[SourceCode, ...]]:
    """The innermost frames that are the user's, outermost of them first; at most one tuple, to go into a message.

    Args:
        nframes: how many frames at most; nothing comes back for 0 and less.

    Raises:
        TypeError: `ignore-modules` or `ignore-files` is not a list.
        ValueError: one of their entries is not a regular expression.
    """
    if nframes <= 0:
        return []
    modules = _pattern("ignore-modules")
    files = _pattern("ignore-files")
    found: list[SourceCode] = []
    for frame in _outwards(sys._getframe(1)):
        module = str(frame.f_globals.get("__name__", ""))
        filename = frame.f_code.co_filename
        if module.partition(".")[0] in _OURS or modules.match(module) or files.search(filename):
            continue
        found.append(_source_of(frame, filename))
        if len(found) == nframes:
            break
    return [tuple(reversed(found))] if found else []


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _source_of(frame: FrameType, filename: str) -> SourceCode:
    code = frame.f_code
    try:
        text = inspect.getsource(frame)
    except (OSError, TypeError):  # typed at a prompt, or made by `exec`
        text = code.co_name
    return SourceCode(text, frame.f_lineno, frame.f_lineno - code.co_firstlineno, filename)


def _pattern(name: str) -> re.Pattern[str]:
    entries = config.get(f"{_SECTION}.{name}", [])
    if not isinstance(entries, (list, tuple)):
        raise TypeError(f"{_SECTION}.{name} must be a list of regular expressions, not {entries!r}")
    return _compiled(name, tuple(map(str, entries)))


@lru_cache
def _compiled(name: str, entries: tuple[str, ...]) -> re.Pattern[str]:
    for entry in entries:
        try:
            re.compile(entry)
        except re.error as error:
            raise ValueError(f"{_SECTION}.{name}: {entry!r} is not a regular expression: {error}") from error
    if not entries:
        return re.compile("(?!)")
    either = "|".join(f"(?:{entry})" for entry in entries)
    # A module's name stands for all that is in it; a file may be named by any part of its path.
    return re.compile(rf"(?:{either})(?:\.|$)" if name == "ignore-modules" else either)
