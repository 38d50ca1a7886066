"""Tables of pyarrow, of which no more travels than they show; and `pyarrow.fs.FileInfo`, which cannot be pickled.

pyarrow pickles the whole memory of which a table is a slice. dask's dataframes of Parquet files hold file infos.
Nothing here imports pyarrow before there is something of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from headrace.protocol.frames import Frame

from . import BY_FUNCTIONS, LibraryClass

#: Of less than this share of its memory, a table is written out; else pickled, without a copy.
_SLICE = 0.5


def classes(toplevel: str) -> Iterator[LibraryClass]:
    """The classes of pyarrow."""
    package = sys.modules["pyarrow"]
    yield LibraryClass(package.Table, dump_table, load_table, reduce_table)
    yield LibraryClass(package.RecordBatch, dump_table, load_batch, reduce_table)
    filesystems = sys.modules.get("pyarrow._fs")
    if filesystems is not None:
        yield LibraryClass(filesystems.FileInfo, dump_file_info, load_dumped_file_info, BY_FUNCTIONS)


def reduce_table(table: Any) -> Any:
    """Reduce a table or a batch for pickling."""
    if table.nbytes >= _SLICE * table.get_total_buffer_size():
        return table.__reduce_ex__(5)
    from pickle import PickleBuffer

    kind = load_batch if type(table).__name__ == "RecordBatch" else load_table
    header, frames = dump_table(table)
    return rebuild_table, (kind.__name__, header, *map(PickleBuffer, frames))


def rebuild_table(kind: str, header: dict[str, Any], *frames: Frame) -> Any:
    """The table or batch that `reduce_table` wrote out; named in pickles."""
    return (load_batch if kind == load_batch.__name__ else load_table)(header, list(frames))


def dump_table(table: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of a table or a batch."""
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return {}, [memoryview(sink.getvalue())]


def load_table(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The table that `dump_table` wrote out."""
    import pyarrow

    with pyarrow.ipc.open_stream(_one(frames)) as reader:
        return reader.read_all()


def load_batch(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The batch that `dump_table` wrote out."""
    import pyarrow

    with pyarrow.ipc.open_stream(_one(frames)) as reader:
        return reader.read_next_batch()


def _one(frames: list[Frame]) -> Frame:
    return frames[0] if len(frames) == 1 else b"".join(frames)


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


def dump_file_info(value: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames (none) of a `pyarrow.fs.FileInfo`."""
    return {"parts": reduce_file_info(value)[1]}, []


def load_dumped_file_info(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The `pyarrow.fs.FileInfo` in what `dump_file_info` returned."""
    return load_file_info(*header["parts"])
