"""Semaphores: at most so many holders of a name at a time, in the whole cluster."""

from __future__ import annotations

from .client import Semaphore

__all__ = ["Semaphore"]
