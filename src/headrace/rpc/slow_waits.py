"""Log lines that tell what a process is waiting for, once the wait takes long: nothing else happens meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

#: Seconds after which a wait is worth a line.
NOTICE_SECONDS = 2.0
#: The line about a wait for the scheduler; its arguments are the scheduler's address and the seconds of the time limit.
WAITS = "Waiting for the scheduler at %s to answer, for %.0f s at most"


@contextlib.contextmanager
def say_if_slow(logger: logging.Logger, text: str, *args: object) -> Iterator[None]:
    """Within this context, log a text once if it takes longer than `NOTICE_SECONDS`. On a running loop."""
    timer = asyncio.get_running_loop().call_later(NOTICE_SECONDS, lambda: logger.info(text, *args))
    try:
        yield
    finally:
        timer.cancel()
