"""`distributed.sizeof`: sizes of values in memory."""

from __future__ import annotations

import logging

from dask.sizeof import sizeof

from headrace.containment import contained

logger = logging.getLogger("distributed.sizeof")

__all__ = ["safe_sizeof", "sizeof"]


def safe_sizeof(obj: object, default_size: float = 1e6) -> int:
    """Bytes of memory that a value takes.

    Args:
        obj: any value.
        default_size: what is returned, in bytes, if `sizeof` fails for it.
    """
    try:
        return int(sizeof(obj))
    except BaseException as raised:
        raised = contained(raised)
        kind = type(obj).__qualname__
        logger.warning(
            "The size of a %s cannot be told; it is taken for %s bytes", kind, int(default_size), exc_info=raised
        )
        return int(default_size)
