"""`distributed.deploy.utils`."""

from __future__ import annotations

from dask.system import CPU_COUNT

from headrace.common.sizing import split_cpus

__all__ = ["nprocesses_nthreads"]


def nprocesses_nthreads(n: int = CPU_COUNT) -> tuple[int, int]:
    """Numbers of workers and of threads each for `n` CPUs."""
    return split_cpus(n)
