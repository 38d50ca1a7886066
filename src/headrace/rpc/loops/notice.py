"""A log line for whoever wonders why nothing happens: what is being waited for, once it takes long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

#: Seconds after which a wait is worth a line.
NOTICE_SECONDS = 2.0
#: For the scheduler: its address, and seconds.
WAITS = "Waiting for the scheduler at %s to answer, for %.0f s at most"


@contextlib.contextmanager
def say_if_slow(logger: logging.Logger, text: str, *args: object) -> Iterator[None]:
    """Within this context, log a text once if it takes longer than `NOTICE_SECONDS`. On a running loop."""
    timer = asyncio.get_running_loop().call_later(NOTICE_SECONDS, lambda: logger.info(text, *args))
    try:
        yield
    finally:
        timer.cancel()
