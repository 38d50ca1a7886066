"""`distributed.deploy.utils`."""

from __future__ import annotations

from headrace.deploy.local import nprocesses_nthreads

__all__ = ["nprocesses_nthreads"]
