"""Semaphores: at most so many holders of a name at a time, in the whole cluster.

The users' half is loaded when it is used: schedulers do without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.facade import lazy_names

if TYPE_CHECKING:
    from .client import Semaphore

__all__ = ["Semaphore"]

__getattr__ = lazy_names(__name__, {"Semaphore": ".client"})
