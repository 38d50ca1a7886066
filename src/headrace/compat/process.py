"""`distributed.process`."""

from __future__ import annotations

from headrace.toolbox.processes import AsyncProcess

__all__ = ["AsyncProcess"]
