"""Connecting and listening with TCP sockets; also the base of `tls`, which requires an SSL context."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
from typing import Any

from headrace.auth.access_rules import AccessRules, configured
from headrace.auth.token_places import REMEDY
from headrace.config import CommOptions
from headrace.exceptions import CommClosedError, EncryptionRequiredError, FatalCommClosedError

from .accepting import Acceptor
from .addressing import parse_host_port, unparse_host_port
from .complaints import Complaints
from .connections import (
    BaseListener,
    Comm,
    CommTasks,
    DroppedError,
    HandleComm,
    Listener,
)
from .interfaces import ensure_ip, get_ip, get_ipv6
from .registry import Backend, Connector, backends
from .socket_comm import SocketComm
from .sockets import bound_sockets, is_loopback
from .strangers import MOST_OPENING, Strangers

logger = logging.getLogger("distributed.comm.tcp")


class SocketConnector(Connector):
    """Connects to `host:port`."""

    scheme = "tcp"
    #: The scheme that encrypts, for messages.
    encrypted = "tls"
    comm_class: type[SocketComm] = SocketComm

    def ssl_context(self, location: str, connection_args: dict[str, Any]) -> ssl.SSLContext | None:
        """The context to connect with, if any.

        Raises:
            EncryptionRequiredError: encryption is required, and this scheme has none.
        """
        if connection_args.get("require_encryption"):
            raise EncryptionRequiredError(
                f"encryption is required by the configuration or Security object: refusing to connect to "
                f"{self.scheme}://{location}; use a {self.encrypted}:// address"
            )
        return None

    async def connect(self, address: str, deserialize: bool = True, **connection_args: Any) -> Comm:
        """Connect to a host and a port, once."""
        context = self.ssl_context(address, connection_args)
        options = CommOptions.from_config()
        comm = self.comm_class(
            self.scheme,
            rules=rules_of(connection_args, "client"),
            opening_seconds=options.connect_timeout,
            deserialize=deserialize,
            max_frame_bytes=options.max_frame_bytes,
            compression=options.compression,
            share_memory=options.share_memory and context is None,
        )
        try:
            await self.open(comm, address, context, dict(connection_args.get("extra_conn_args") or {}))
            await comm.shake_hands()
        except ssl.SSLError as error:
            raise FatalCommClosedError(f"TLS with {self.scheme}://{address} failed: {error}") from error
        except FatalCommClosedError:
            raise
        except CommClosedError as error:
            if context is None:
                raise
            if isinstance(error.__cause__, ssl.SSLError):  # an alert: TLS 1.3 looks at our certificate last of all
                text = f"{self.scheme}://{address} refused this end's certificate: {error.__cause__}"
                raise FatalCommClosedError(text) from error
            if comm.opened and not comm.handshake_begun:
                raise dropped(f"{self.scheme}://{address}") from error
            raise
        except BaseException:
            comm.abort()
            raise
        return comm

    async def open(
        self, comm: SocketComm, address: str, context: ssl.SSLContext | None, arguments: dict[str, Any]
    ) -> None:
        """Connect a comm that has no connection yet, without waiting for the other side's handshake.

        Args:
            address: without `scheme://`.
            arguments: `extra_conn_args` of a `Security`.

        Raises:
            OSError: the connection cannot be made.
        """
        host, port = parse_host_port(address)
        if host in ("", "0.0.0.0"):
            host = "127.0.0.1"
        if context is not None:
            arguments.setdefault("server_hostname", host)
        await asyncio.get_running_loop().create_connection(lambda: comm, host, port, ssl=context, **arguments)


def rules_of(arguments: dict[str, Any], role: str) -> AccessRules:
    """How connections are opened: as `Security` says, or, without one, as the configuration does for a role."""
    rules = arguments.get("access_rules")
    return rules if isinstance(rules, AccessRules) else configured(role)


def dropped(address: str) -> DroppedError:
    """What a peer's closing right after TLS means."""
    return DroppedError(
        f"{address} closes connections once TLS is agreed on: most likely it does not accept this end's certificate; "
        "both ends need certificates of an authority that the other knows (tls_ca_file)"
    )


class SocketListener(BaseListener):
    """Accepts connections at `host:port`."""

    scheme = "tcp"
    #: The scheme that encrypts, for messages.
    encrypted = "tls"
    comm_class: type[SocketComm] = SocketComm

    def __init__(self, location: str, handle_comm: HandleComm, deserialize: bool = True, **listen_args: Any) -> None:
        super().__init__()
        self._host, self._port = parse_host_port(location, 0)
        self._path = ""
        self._handle_comm = handle_comm
        self._deserialize = deserialize
        self._listen_args = listen_args
        self._options = CommOptions.from_config()
        self._acceptors: list[Acceptor | asyncio.Server] = []
        self._context = self.ssl_context(location, listen_args)
        self._rules = rules_of(listen_args, "scheduler")
        self._tasks = CommTasks()
        self._complaints = Complaints(logger)
        #: connections that come to nothing share a line a second, whoever makes them
        self._refusals = Complaints(logger)
        self._strangers = Strangers()
        self.listen_address = self.contact_address = f"{self.scheme}://{location}"

    def ssl_context(self, location: str, listen_args: dict[str, Any]) -> ssl.SSLContext | None:
        """The context to listen with, if any.

        Raises:
            RuntimeError: encryption is required, and this scheme has none.
        """
        if listen_args.get("require_encryption"):
            raise RuntimeError(
                f"encryption is required by the configuration or Security object: refusing to listen at "
                f"{self.scheme}://{location}; use a {self.encrypted}:// address"
            )
        return None

    async def start(self) -> None:
        """Begin to listen, unless the listener does already."""
        if self._acceptors:
            return
        self._check_tokens()
        sockets: list[socket.socket] = []
        try:
            sockets = await bound_sockets(self._host, self._port)
            bound_host, bound_port = sockets[0].getsockname()[:2]
            self.listen_address = self._address(bound_host, bound_port)
            for one in sockets:
                self._acceptors.append(await self._acceptor(one))
        except OSError as error:
            self.stop()
            for one in sockets:
                one.close()
            text = f"cannot listen at {self._address(self._host, self._port)}: {error}"
            raise OSError(error.errno, text) from error
        contact = get_ip() if bound_host == "0.0.0.0" else get_ipv6() if bound_host == "::" else bound_host
        self.contact_address = self._address(contact, bound_port)

    def _check_tokens(self) -> None:
        """Find the tokens that others on other machines will need.

        Raises:
            ValueError, OSError: something is configured, or in the user's file, that cannot be used.
        """
        if self._context is not None or not self._rules.asks or is_loopback(self._host):
            return
        tokens = self._rules.tokens()
        if not tokens:
            logger.warning(
                "Only this user on this machine can connect to %s: %s; %s", self.listen_address, tokens.problem, REMEDY
            )

    def _address(self, host: str, port: int) -> str:
        return f"{self.scheme}://{unparse_host_port(host, port)}{self._path}"

    def stop(self) -> None:
        """Accept no more connections, and drop those that have not shaken hands."""
        acceptors, self._acceptors = self._acceptors, []
        for acceptor in acceptors:
            acceptor.close()
        self.abort_handshaking_comms()

    async def _acceptor(self, sock: socket.socket) -> Acceptor | asyncio.Server:
        if sys.platform == "win32":  # its event loop cannot tell when a socket is readable
            return await asyncio.get_running_loop().create_server(
                self._make_protocol, sock=sock, ssl=self._context, backlog=self._options.socket_backlog
            )
        return Acceptor(
            sock,
            self.listen_address,
            self._make_protocol,
            context=self._context,
            backlog=self._options.socket_backlog,
            timeout=self._options.connect_timeout,
            complaints=self._refusals,
            strangers=self._strangers,
        )

    def _make_protocol(self) -> asyncio.BaseProtocol:
        """What the loop gets for each connection; it calls `_on_connected` once packets can be exchanged."""
        return self._make_comm()

    def _make_comm(self) -> SocketComm:
        return self.comm_class(
            self.scheme,
            rules=self._rules,
            opening_seconds=self._options.connect_timeout,
            deserialize=self._deserialize,
            max_frame_bytes=self._options.max_frame_bytes,
            compression=self._options.compression,
            share_memory=self._options.share_memory and self._context is None,
            on_connected=self._on_connected,
            complaints=self._complaints,
        )

    def _on_connected(self, comm: SocketComm) -> None:
        self._tasks.start(self._welcome(comm), f"connection from {comm.peer_address}")

    async def _welcome(self, comm: SocketComm) -> None:
        self.beginning[comm] = None
        if len(self.beginning) > MOST_OPENING:
            next(iter(self.beginning)).abort()
        host = comm.stranger
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                await comm.shake_hands()
        except TimeoutError:
            self._refuse(comm, host, "Closing the connection from %s: no handshake came", comm.peer_address)
            comm.abort()
            return
        except OSError as error:
            if self._acceptors and comm.handshake_begun:
                self._refuse(comm, host, "Refused the connection from %s: %s", comm.peer_address, error)
            elif host is not None:
                self._strangers.note_failure(host)
            return
        finally:
            self.beginning.pop(comm, None)
        await self.serve(comm, self._handle_comm)

    def _refuse(self, comm: SocketComm, host: object, text: str, *args: object) -> None:
        """Say that a connection has come to nothing, and count it against the host that it came from."""
        if host is None:
            self._complaints.say("a refused connection", comm.peer_address, text, *args)
            return
        self._strangers.note_failure(host)
        self._refusals.say("a refused connection", self.listen_address, text, *args)


class TCPBackend(Backend):
    """`tcp://host:port`."""

    connector: type[SocketConnector] = SocketConnector
    listener: type[SocketListener] = SocketListener

    def get_connector(self) -> SocketConnector:
        """A connector."""
        return self.connector()

    def get_listener(self, loc: str, handle_comm: HandleComm, deserialize: bool, **args: object) -> Listener:
        """A listener that has not started."""
        return self.listener(loc, handle_comm, deserialize, **args)

    def get_address_host(self, loc: str) -> str:
        """The host in a location."""
        return parse_host_port(loc, 0)[0]

    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        """Host and port."""
        return parse_host_port(loc)

    def resolve_address(self, loc: str) -> str:
        """The location with its host name looked up."""
        host, port = parse_host_port(loc, -1)
        return unparse_host_port(ensure_ip(host), None if port == -1 else port)

    def get_local_address_for(self, loc: str) -> str:
        """The address of this host from which the location can be reached."""
        host = ensure_ip(parse_host_port(loc, 0)[0])
        return unparse_host_port(get_ipv6(host) if ":" in host else get_ip(host))


backends["tcp"] = TCPBackend()
