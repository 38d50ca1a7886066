"""A server of one's own, with the life of ours.

Schedulers, workers and nannies count as such servers, too. None of them is made from these classes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from headrace.common.status import Status
from headrace.private_directories import chosen_directory
from headrace.rpc.pool import IDLE_LIMIT, ConnectionPool
from headrace.rpc.server_life import Node

from .server_members import DocumentedServer


class _EveryNode(type):
    """Makes every `Node` an instance of `Server` and `ServerNode`, but not of what users derive from them."""

    def __instancecheck__(cls, instance: object) -> bool:
        return super().__instancecheck__(instance) or ("_counts_every_node" in vars(cls) and isinstance(instance, Node))

    def __subclasscheck__(cls, subclass: type) -> bool:
        return super().__subclasscheck__(subclass) or ("_counts_every_node" in vars(cls) and Node in subclass.__mro__)


class Server(DocumentedServer, metaclass=_EveryNode):
    """Answers requests at the addresses that it is told to `listen` at.

    Args:
        handlers: per operation, a function (sync or async) that is called with the request's keywords, and with the
            comm if it has a parameter of that name.
        blocked_handlers: operations to refuse.
        stream_handlers: per operation, what `handle_stream` calls.
        connection_limit: idle connections that are kept.
        deserialize: whether pickles that reach it are loaded.
        connection_args: for TLS, what `Security.get_connection_args` and `get_listen_args` give.
        timeout: seconds that closing waits for requests under way.
        local_directory: where to make a folder for it, if it needs one.
        needs_workdir: whether it does; the folder is removed when it closes.
        serializers, deserializers: accepted for compatibility.
    """

    _counts_every_node = True

    def __init__(
        self,
        handlers: Mapping[str, Callable[..., Any]],
        blocked_handlers: Iterable[str] | None = None,
        stream_handlers: Mapping[str, Callable[..., Any]] | None = None,
        connection_limit: int = IDLE_LIMIT,
        deserialize: bool = True,
        serializers: object = None,
        deserializers: object = None,
        connection_args: dict[str, Any] | None = None,
        timeout: float | None = None,
        local_directory: str | None = None,
        needs_workdir: bool = True,
    ) -> None:
        super().__init__("Server", handlers, None, "distributed.core", deserialize=deserialize)
        self.id = f"{type(self).__name__}{self.id.removeprefix('Server')}"
        self.server.handlers.update({**self._own_handlers(), **handlers})
        self.stream_handlers = dict(stream_handlers or {})
        self.blocked_handlers = list(blocked_handlers or ())
        self._block_operations()
        if connection_args:
            self.connection_args = dict(connection_args)
            self.server.connection_args = dict(connection_args)
        self.rpc = ConnectionPool(connection_limit, deserialize, connection_args=self.connection_args)
        self.server.timeout = timeout
        self.status = Status.init
        self._parent_directory = local_directory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.local_directory = ""
        if needs_workdir:
            self._make_folder()

    def _own_handlers(self) -> dict[str, Callable[..., Any]]:
        return {"identity": self.identity, "echo": self.echo}

    def _make_folder(self) -> None:
        if self._parent_directory:
            self._parent_directory = chosen_directory(self._parent_directory)
        self._folder = tempfile.TemporaryDirectory(prefix="server-", dir=self._parent_directory)
        self.local_directory = self._folder.name

    async def _start(self) -> None:
        self.status = Status.running

    async def _close(self, timeout: float | None = None, **_: object) -> None:
        if timeout is not None:
            self.server.timeout = timeout
        if self._folder is not None:
            self._folder.cleanup()

    async def close(self, timeout: float | None = None, reason: str = "") -> str:
        """Stop listening and close all connections; waits for a close that is under way. Returns "OK".

        Args:
            timeout: seconds to wait for requests under way.
        """
        if self.status is Status.init:  # it may listen without having been started
            await self.start()
        return await super().close(timeout, reason)

    def identity(self) -> dict[str, Any]:
        """The class and the id of this server."""
        return {"type": type(self).__name__, "id": self.id}
