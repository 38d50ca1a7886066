"""2 k tasks, each of which needs the one before."""

from __future__ import annotations

import time
from typing import Any


def step(x: int) -> int:
    return x + 1


def run(session: Any) -> dict[str, float]:
    count = session.size(2_000)
    _chain(session, 20, -1_000_000)
    begin = time.perf_counter()
    assert _chain(session, count, 0) == count
    return {"seconds": time.perf_counter() - begin}


def _chain(session: Any, count: int, start: int) -> Any:
    client, function = session.client, session.function(step)
    future = start
    for _ in range(count):
        future = client.submit(function, future)
    return future.result()  # type: ignore[attr-defined]
