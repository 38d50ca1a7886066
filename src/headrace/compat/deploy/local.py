"""`distributed.deploy.local`: `headrace.deploy.local`, and what other packages import from there."""

from __future__ import annotations

from headrace.common.facade import names_before

__getattr__ = names_before(
    __name__,
    "headrace.deploy.local",
    {
        "Nanny": "headrace",
        "Scheduler": "headrace",
        "Worker": "headrace",
        "nprocesses_nthreads": "headrace.compat.deploy.utils",
        "parse_memory_limit": "headrace.compat.worker_memory",
        "split_cpus": "headrace.common.sizing",
    },
)
