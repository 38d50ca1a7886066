"""A lock that the whole cluster shares, by name."""

from __future__ import annotations

from .client import Lock

__all__ = ["Lock"]
