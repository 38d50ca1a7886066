"""`distributed.node`: a server of one's own that answers questions about itself."""

from __future__ import annotations

from collections.abc import Callable

from .core import Server


class ServerNode(Server):
    """A server that also tells of its log and of the versions of packages here."""

    _counts_every_node = True

    def _own_handlers(self) -> dict[str, Callable[..., object]]:
        return {**super()._own_handlers(), "get_logs": self.get_logs, "versions": self.versions}


__all__ = ["ServerNode"]
