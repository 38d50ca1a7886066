"""A graph of 20 k independent tasks and one that takes them all, through `Client.get`."""

from __future__ import annotations

import time
from typing import Any


def leaf(x: int) -> int:
    return x + 1


def run(session: Any) -> dict[str, float]:
    count = session.size(20_000)
    _merge(session, 100, "warm")
    begin = time.perf_counter()
    total = _merge(session, count, "leaf")
    took = time.perf_counter() - begin
    assert total == count * (count + 1) // 2
    return {"seconds": took}


def _merge(session: Any, count: int, name: str) -> Any:
    function = session.function(leaf)
    graph: dict[Any, Any] = {(name, i): (function, i) for i in range(count)}
    graph[f"{name}-total"] = (sum, list(graph))
    return session.client.get(graph, f"{name}-total")
