"""Flags that the whole cluster shares and waits for.

The users' half is loaded when it is used: schedulers do without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.facade import lazy_names

if TYPE_CHECKING:
    from .client import Event

__all__ = ["Event"]

__getattr__ = lazy_names(__name__, {"Event": ".client"})
