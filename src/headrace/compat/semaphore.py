"""`distributed.semaphore`."""

from __future__ import annotations

from headrace.extensions.semaphores import Semaphore
from headrace.extensions.semaphores.scheduler import SemaphoreExtension

__all__ = ["Semaphore", "SemaphoreExtension"]
