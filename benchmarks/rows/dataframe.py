"""A groupby and a shuffle of `dask.datasets.timeseries`, each side with its own default way to shuffle."""

from __future__ import annotations

import time
from typing import Any

import dask.datasets


def run(session: Any) -> dict[str, float]:
    end = "2000-01-04" if session.quick else "2000-01-31"
    frame = dask.datasets.timeseries(end=end, seed=1)
    frame.x.sum().compute()
    marks = [time.perf_counter()]
    frame.groupby("name").x.mean().compute()
    marks.append(time.perf_counter())
    count = frame.shuffle("id").map_partitions(len).sum().compute()
    marks.append(time.perf_counter())
    assert count == len(frame)
    return {"groupby_seconds": marks[1] - marks[0], "shuffle_seconds": marks[2] - marks[1]}
