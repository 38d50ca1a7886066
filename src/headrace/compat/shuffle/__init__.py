"""`distributed.shuffle`, as far as dask asks for it. No shuffle is from peer to peer yet: work is cut into tasks.

Rechunking has the same result either way; a dataframe shuffle that asks for "p2p" by name is told what to ask for.
"""

from __future__ import annotations

from typing import Any

__all__ = ["rechunk_p2p"]


def rechunk_p2p(
    x: Any, chunks: Any, *, threshold: int | None = None, block_size_limit: int | None = None, balance: bool = False
) -> Any:
    """Rechunk a dask array, as `x.rechunk(chunks, method="tasks")`; see there for the arguments."""
    from dask.array.rechunk import rechunk

    return rechunk(x, chunks, threshold=threshold, block_size_limit=block_size_limit, balance=balance, method="tasks")
