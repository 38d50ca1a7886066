"""Operations that are tried again when the connection fails, as `distributed.comm.retry` configures it.

Only operations that may be carried out twice may be given to these functions.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from headrace import config
from headrace.exceptions import CommClosedError

logger = logging.getLogger("distributed.utils_comm")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """The number of further attempts, and the pauses between them.

    Attributes:
        count: attempts after the first; 0 for none.
        delay_min, delay_max: seconds; see `retry`.
    """

    count: int = 0
    delay_min: float = 1.0
    delay_max: float = 20.0

    @classmethod
    def from_config(cls) -> RetryOptions:
        """The options as configured now."""
        values = config.get("distributed.comm.retry")
        return cls(
            count=int(values["count"]),
            delay_min=config.parse_seconds(values["delay"]["min"]),
            delay_max=config.parse_seconds(values["delay"]["max"]),
        )


async def retry(
    coro: Callable[[], Coroutine[Any, Any, T]],
    count: int,
    delay_min: float,
    delay_max: float,
    jitter_fraction: float = 0.1,
    retry_on_exceptions: type[BaseException] | tuple[type[BaseException], ...] = (OSError, CommClosedError),
    operation: str | None = None,
) -> T:
    """Call an async function again until it does not fail.

    The pauses between attempts are 0, 1, 3, 7, … times `delay_min` seconds, at most `delay_max`.

    Args:
        coro: called without arguments.
        count: attempts after the first; 0 for none.
        jitter_fraction: a random share of a pause, up to this, is added, so that many callers do not come at once.
        retry_on_exceptions: exceptions after which there is another attempt; others are raised at once.
        operation: name of the operation, for the log.

    Raises:
        BaseException: the exception of the last attempt.
    """
    for attempt in range(count):
        try:
            return await coro()
        except retry_on_exceptions as error:
            what = f"{operation or coro}"
            logger.info("Retrying %s after exception in attempt %d/%d: %s", what, attempt, count, error)
            pause = min(delay_min * (2**attempt - 1), delay_max)
            if jitter_fraction > 0:
                pause *= 1 + random.random() * jitter_fraction
            await asyncio.sleep(pause)
    return await coro()
