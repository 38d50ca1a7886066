"""`distributed.deploy.spec`: `headrace.deploy.spec`, and what other packages import from there."""

from __future__ import annotations

from headrace.common.facade import names_before

__getattr__ = names_before(
    __name__,
    "headrace.deploy.spec",
    {
        "Adaptive": "headrace.deploy.adaptive",
        "NoOpAwaitable": "headrace.compat.utils.awaitables",
        "Scheduler": "headrace",
        "rpc": "headrace.rpc",
    },
)
