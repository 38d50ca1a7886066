"""`(x + x.T).sum()` on random numbers; the reference is dask's own threaded scheduler."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import dask.array as da


def _work(session: Any) -> Any:
    edge = 2_000 if session.quick else 8_000
    x = da.random.default_rng(42).random((edge, edge), chunks=(500, 500))
    return (x + x.T).sum()


def _measure(session: Any, **kwargs: Any) -> dict[str, float]:
    da.ones((1000, 1000), chunks=(500, 500)).sum().compute(**kwargs)
    times = []
    for _ in range(1 if session.quick else 3):
        work = _work(session)
        begin = time.perf_counter()
        work.compute(**kwargs)
        times.append(time.perf_counter() - begin)
    return {"seconds": median(times)}


def run(session: Any) -> dict[str, float]:
    return _measure(session)


def reference(session: Any) -> dict[str, float]:
    return _measure(session, scheduler="threads", num_workers=2)
