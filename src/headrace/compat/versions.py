"""`distributed.versions`."""

from __future__ import annotations

from headrace.common.versions import get_versions

__all__ = ["get_versions"]
