"""Pickles `pyarrow.fs.FileInfo`, which pyarrow cannot pickle and dask's dataframes of Parquet files hold.

Only asked once plain pickle has failed; pyarrow is not imported here before there is something of it.
"""

from __future__ import annotations

from typing import Any


def reduce_file_info(value: Any) -> Any:
    """Reduce a `pyarrow.fs.FileInfo`; `NotImplemented` for all else."""
    kind = type(value)
    if kind.__name__ != "FileInfo" or kind.__module__ not in ("pyarrow._fs", "pyarrow.fs"):
        return NotImplemented
    return load_file_info, (value.path, value.type.value, value.size, value.mtime_ns)


def load_file_info(path: str, kind: int, size: int | None, mtime_ns: int | None) -> Any:
    """Make a `pyarrow.fs.FileInfo` from what `reduce_file_info` kept of it; named in pickles."""
    from pyarrow import fs

    return fs.FileInfo(path, fs.FileType(kind), size=size, mtime_ns=mtime_ns)
