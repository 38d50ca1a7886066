"""500 times: submit one task, wait for its result."""

from __future__ import annotations

import time
from statistics import quantiles
from typing import Any


def no_op(x: int) -> int:
    return x


def run(session: Any) -> dict[str, float]:
    client, function = session.client, session.function(no_op)
    for i in range(50):
        client.submit(function, -i).result()
    times = []
    for i in range(session.size(500)):
        begin = time.perf_counter()
        client.submit(function, i + 1).result()
        times.append((time.perf_counter() - begin) * 1e3)
    cuts = quantiles(times, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], "p99_to_p50": cuts[98] / cuts[49]}
