"""`distributed.deploy.spec`: `headrace.deploy.spec`, and what other packages import from there."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from headrace.common.facade import names_before


class NoOpAwaitable:
    """Does nothing when it is awaited, and gives None: for methods that may be awaited and have nothing to wait for."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


__getattr__ = names_before(
    __name__,
    "headrace.deploy.spec",
    {"Adaptive": "headrace.deploy.adaptive", "Scheduler": "headrace", "rpc": "headrace.rpc"},
)
