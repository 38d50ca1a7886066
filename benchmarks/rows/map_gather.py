"""A map of 10 k no-op tasks, and all their results; the reference is `concurrent.futures.ProcessPoolExecutor`."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any


def no_op(x: int) -> int:
    return x


def run(session: Any) -> dict[str, float]:
    client, count, function = session.client, session.size(10_000), session.function(no_op)
    client.gather(client.map(function, range(-500, 0)))
    rates = []
    for repetition in range(1 if session.side == "peer" else 5):
        values = range(repetition * count, (repetition + 1) * count)
        begin = time.perf_counter()
        results = client.gather(client.map(function, values))
        rates.append(count / (time.perf_counter() - begin))
        assert results == list(values)
    return {"tasks_per_second": median(rates)}


def reference(session: Any) -> dict[str, float]:
    count = session.size(10_000)
    with ProcessPoolExecutor(2) as executor:
        list(executor.map(no_op, range(500)))
        begin = time.perf_counter()
        results = list(executor.map(no_op, range(count)))
        took = time.perf_counter() - begin
    assert results == list(range(count))
    return {"tasks_per_second": count / took}
