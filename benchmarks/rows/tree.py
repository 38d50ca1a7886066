"""A binary tree of 16 k tasks: 8192 leaves, added pairwise level by level."""

from __future__ import annotations

import time
from operator import add
from typing import Any


def leaf(x: int) -> int:
    return x + 1


def run(session: Any) -> dict[str, float]:
    leaves = 1024 if session.quick else 8192
    _tree(session, 64, -1000)
    begin = time.perf_counter()
    total = _tree(session, leaves, 0)
    took = time.perf_counter() - begin
    assert total == leaves * (leaves + 1) // 2
    return {"seconds": took}


def _tree(session: Any, leaves: int, start: int) -> Any:
    client = session.client
    level = client.map(session.function(leaf), range(start, start + leaves))
    while len(level) > 1:
        level = client.map(add, level[::2], level[1::2])
    return level[0].result()
