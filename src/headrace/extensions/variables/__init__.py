"""Variables that the whole cluster shares."""

from __future__ import annotations

from .client import Variable

__all__ = ["Variable"]
