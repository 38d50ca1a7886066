"""`distributed.node`."""

from __future__ import annotations

from headrace.rpc.documented_server import ServerNode

__all__ = ["ServerNode"]
