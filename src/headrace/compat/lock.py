"""`distributed.lock`."""

from __future__ import annotations

from headrace.extensions.locks import Lock

__all__ = ["Lock"]
