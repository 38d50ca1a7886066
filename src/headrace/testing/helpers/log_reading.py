"""Reading what was logged, by this process or by another."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def captured_logger(
    logger: logging.Logger | str, level: int = logging.INFO, propagate: bool | None = None
) -> Iterator[io.StringIO]:
    """The lines that a logger writes inside the block, as text.

    >>> with captured_logger("distributed.example") as log:
    ...     logging.getLogger("distributed.example").info("hello")
    >>> log.getvalue()
    'hello\\n'
    """
    if isinstance(logger, str):
        logger = logging.getLogger(logger)
    before = logger.level, logger.handlers[:], logger.propagate
    text = io.StringIO()
    logger.setLevel(level)
    logger.handlers[:] = [logging.StreamHandler(text)]
    if propagate is not None:
        logger.propagate = propagate
    try:
        yield text
    finally:
        logger.level, logger.handlers[:], logger.propagate = before[0], before[1], before[2]
        logger.setLevel(before[0])  # also clears the cache of what is enabled


@contextlib.contextmanager
def captured_handler(handler: logging.StreamHandler[io.StringIO]) -> Iterator[io.StringIO]:
    """The text that a stream handler writes inside the block."""
    text = io.StringIO()
    before = handler.setStream(text)
    try:
        yield text
    finally:
        if before is not None:
            handler.setStream(before)


def wait_for_log_line(match: bytes, stream: IO[bytes] | None, max_lines: int | None = 10) -> bytes:
    """The first line of a process's output that contains `match`; lines read are printed.

    Raises:
        AssertionError: it is not among the first `max_lines` lines, or the output ended.
    """
    assert stream is not None
    count = 0
    while max_lines is None or count < max_lines:
        count += 1
        line = stream.readline()
        print(line.decode(errors="replace"), end="", flush=True)
        if match in line:
            return line
        if not line:
            break
    raise AssertionError(f"{match!r} is not in the {count} lines that were read")
