"""The number of workers, and of threads of each, that a machine gets where the user leaves them open."""

from __future__ import annotations

import math
import operator
from contextlib import suppress
from typing import SupportsIndex


def split_cpus(cpus: int) -> tuple[int, int]:
    """Numbers of workers and of threads each: a worker per CPU if there are few, else a split near the square root.

    All CPUs are used.

    >>> split_cpus(4), split_cpus(8), split_cpus(64)
    ((4, 1), (4, 2), (8, 8))
    """
    if cpus <= 4:
        return cpus, 1
    processes = min(divisor for divisor in range(1, cpus + 1) if cpus % divisor == 0 and divisor**2 >= cpus)
    return processes, cpus // processes


def whole_number(name: str, value: object) -> int:
    """The integer that a user gave; numpy's integers count, and quotients such as 4 / 2.

    Raises:
        TypeError: the value is no integer; the message begins with `name`.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, SupportsIndex):
        with suppress(TypeError):  # an array has the method, and no index unless it is one integer
            return operator.index(value)
    raise TypeError(f"{name} must be an integer, not {value!r}")


def workers_and_threads(
    n_workers: int | None, threads_per_worker: int | None, processes: bool, cpus: int
) -> tuple[int, int]:
    """Numbers of workers and of threads each, where the user may have left either open.

    All CPUs are used then, but by threads of this process: with a number of threads, these are one worker's. No threads
    (0) are as many as there are CPUs, as for a Worker.

    Raises:
        TypeError: a number is no integer; the message names it.
        ValueError: a number is negative.
    """
    n_workers = None if n_workers is None else whole_number("n_workers", n_workers)
    if threads_per_worker is not None:
        threads_per_worker = whole_number("threads_per_worker", threads_per_worker)
    if n_workers is not None and n_workers < 0:
        raise ValueError(f"n_workers must not be negative, and is {n_workers}")
    if threads_per_worker is not None and threads_per_worker < 0:
        raise ValueError(f"threads_per_worker must not be negative, and is {threads_per_worker}")
    if threads_per_worker == 0:
        threads_per_worker = cpus
    if n_workers is None and threads_per_worker is None:
        return split_cpus(cpus) if processes else (1, cpus)
    if n_workers is None:
        assert threads_per_worker is not None
        return max(1, cpus // threads_per_worker) if processes else 1, threads_per_worker
    if threads_per_worker is None:
        return n_workers, math.ceil(cpus / n_workers) if n_workers else cpus
    return n_workers, threads_per_worker
