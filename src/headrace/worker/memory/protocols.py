"""Methods that a user's mapping for results must offer to be emptied when the process takes too much memory."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ManualEvictProto(Protocol):
    """A mapping, given as a worker's `data`, that can move values to where they take no memory.

    Attributes:
        fast: false when there is nothing (more) to evict.
    """

    @property
    def fast(self) -> Any | bool: ...

    def evict(self) -> int:
        """Move one value out of memory.

        Returns:
            the bytes that this freed, or -1 if it did not work: then the value is still in memory, and the mapping has
            logged why. Raises nothing.
        """
        ...
