"""`distributed.process`."""

from __future__ import annotations

from headrace.compat.toolbox.async_process import AsyncProcess

__all__ = ["AsyncProcess"]
