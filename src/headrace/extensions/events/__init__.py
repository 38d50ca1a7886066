"""Flags that the whole cluster shares and waits for."""

from __future__ import annotations

from .client import Event

__all__ = ["Event"]
