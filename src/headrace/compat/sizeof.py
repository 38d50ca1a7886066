"""`distributed.sizeof`: how many bytes a value takes."""

from __future__ import annotations

import logging

from dask.sizeof import sizeof

__all__ = ["safe_sizeof", "sizeof"]

logger = logging.getLogger("distributed.sizeof")


def safe_sizeof(obj: object, default_size: float = 1e6) -> int:
    """The bytes that a value takes; `default_size`, with a warning in the log, if it cannot be asked."""
    try:
        return int(sizeof(obj))
    except Exception:  # whatever a value's own methods raise
        logger.warning(
            "cannot tell the size of a %s: taken for %s bytes", type(obj).__qualname__, int(default_size), exc_info=True
        )
        return int(default_size)
