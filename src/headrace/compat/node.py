"""`distributed.node`."""

from __future__ import annotations

from headrace.compat.server_node import ServerNode

__all__ = ["ServerNode"]
