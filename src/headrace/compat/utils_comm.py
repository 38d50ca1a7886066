"""`distributed.utils_comm`."""

from __future__ import annotations

from headrace.rpc.retrying import retry, retry_operation
from headrace.toolbox.transfers import (
    WrappedKey,
    gather_from_workers,
    pack_data,
    scatter_to_workers,
    subs_multiple,
    unpack_remotedata,
)

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
