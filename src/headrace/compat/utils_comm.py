"""`distributed.utils_comm`."""

from __future__ import annotations

from headrace.compat.toolbox.transfers import (
    WrappedKey,
    gather_from_workers,
    pack_data,
    scatter_to_workers,
    subs_multiple,
    unpack_remotedata,
)
from headrace.rpc.connection_retries import retry, retry_operation

__all__ = [
    "WrappedKey",
    "gather_from_workers",
    "pack_data",
    "retry",
    "retry_operation",
    "scatter_to_workers",
    "subs_multiple",
    "unpack_remotedata",
]
