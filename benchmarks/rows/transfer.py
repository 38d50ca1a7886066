"""An array of 200 MB: to one worker, from there to the other, and back to the client.

Hashing the content for the key, which `scatter` does unless told not to, costs both sides the same and is left out of
the first figure.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np


def size_of(array: Any) -> int:
    return int(array.nbytes)


def run(session: Any) -> dict[str, float]:
    client = session.client
    first, second = sorted(client.scheduler_info()["workers"])
    nbytes = session.size(200_000_000)
    names = ("scatter_seconds", "move_seconds", "gather_seconds")
    figures: dict[str, list[float]] = {name: [] for name in names}
    generator = np.random.default_rng(0)
    _once(client, generator.integers(0, 255, 1_000_000, dtype="u1"), first, second)
    for _ in range(1 if session.quick else 3):
        times = _once(client, generator.integers(0, 255, nbytes, dtype="u1"), first, second)
        for name, seconds in zip(figures, times, strict=True):
            figures[name].append(seconds)
    array = generator.integers(0, 255, nbytes, dtype="u1")
    begin = time.perf_counter()
    client.scatter(array, workers=[first])
    hashed = time.perf_counter() - begin
    return {name: median(values) for name, values in figures.items()} | {"scatter_hashed_seconds": hashed}


def _once(client: Any, array: Any, first: str, second: str) -> tuple[float, float, float]:
    marks = [time.perf_counter()]
    future = client.scatter(array, workers=[first], hash=False)
    marks.append(time.perf_counter())
    assert client.submit(size_of, future, workers=[second]).result() == array.nbytes
    marks.append(time.perf_counter())
    result = client.gather(future)
    marks.append(time.perf_counter())
    assert result[-1] == array[-1]
    assert len(result) == len(array)
    return marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]
