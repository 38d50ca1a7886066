"""Of a slice of a table no more travels than it shows."""

from __future__ import annotations

from typing import Any

import pyarrow
import pyarrow.fs
import pytest

from headrace.protocol import Frames, dumps, loads
from headrace.protocol.families import deserialize, serialize

TABLE = pyarrow.table({"a": range(100_000), "b": [str(number) for number in range(100_000)]})
BATCH = TABLE.combine_chunks().to_batches()[0]


@pytest.mark.parametrize("whole", [TABLE, BATCH], ids=["table", "batch"])
def test_slices_are_small(whole: Any) -> None:
    part = whole.slice(5, 10)
    payload = dumps([part])
    assert not isinstance(payload, Frames)
    assert len(payload) < 5000
    assert loads(payload) == [part]


@pytest.mark.parametrize("value", [TABLE, BATCH, TABLE.slice(3, 4), TABLE.slice(0, 0)])
def test_tables_need_no_pickle(value: Any) -> None:
    arrived = deserialize(*serialize(value, ["dask"]), ["dask"])
    assert type(arrived) is type(value)
    assert arrived == value
    assert loads(dumps(value)) == value


def test_file_infos() -> None:
    info = pyarrow.fs.FileInfo("x", pyarrow.fs.FileType.File, size=3)
    for arrived in (loads(dumps([info]))[0], deserialize(*serialize(info, ["dask"]), ["dask"])):
        assert (arrived.path, arrived.type, arrived.size) == ("x", pyarrow.fs.FileType.File, 3)
