"""Accepts connections on one listening socket, and logs one line for each thing that keeps it from doing so.

When the process has no descriptor left, the acceptor logs that and tries again until it can accept. A peer that it
refuses costs one line. The event loops' own servers drop connections silently when descriptors are used up (uvloop), or
log a dozen lines for that and for each failed TLS handshake (asyncio). Knows no messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable

from headrace.auth.socket_owner import THIS_MACHINE, host_of, is_same_user
from headrace.exceptions import CommClosedError

from .addressing import unparse_host_port
from .complaints import Complaints
from .connections import CommTasks
from .forks import end_keeping, keep_from_children
from .opening.handshake import MAGIC, TLS_ALERT
from .sockets import SocketAddress
from .strangers import Strangers

#: Connections that are accepted before the loop's other callbacks get their turn.
ACCEPT_TURN = 100
#: Seconds until the next attempt when the system has no descriptor or memory left for another connection.
PAUSE = 0.2
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Listens on one socket, from when it is made until `close`.

    Args:
        sock: bound, not blocking.
        address: the listener's address, for the log.
        make_protocol: makes the protocol of each connection.
        context: for TLS.
        backlog: connections that may wait to be accepted.
        timeout: seconds for a TLS handshake.
        complaints: writes the log lines about peers.
        strangers: whose connections have come to nothing.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        *,
        context: ssl.SSLContext | None,
        backlog: int,
        timeout: float,
        complaints: Complaints,
        strangers: Strangers,
    ) -> None:
        self.sock = sock
        self._address = address
        self._make_protocol = make_protocol
        self._context = context
        self._timeout = timeout
        self._complaints = complaints
        self._strangers = strangers
        self._loop = asyncio.get_running_loop()
        self._tasks = CommTasks()
        self._pause: asyncio.TimerHandle | None = None
        self._kept = keep_from_children(sock.fileno())
        sock.listen(backlog)
        self._loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more connections, and drop those that are accepted and not connected yet."""
        if self._pause is not None:
            self._pause.cancel()
        if self.sock.fileno() >= 0:
            end_keeping(self._kept)
            self._loop.remove_reader(self.sock.fileno())
            self.sock.close()
        self._tasks.cancel()

    def _accept(self) -> None:
        for _ in range(ACCEPT_TURN):
            try:
                accepted, peer = self.sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._wait_for_better_times(error)
                return
            if self._strangers.any and self._is_shut_out(accepted, peer):
                accepted.close()
                continue
            accepted.setblocking(False)
            self._tasks.start(self._connect(accepted, peer), f"connection from {peer}")

    def _is_shut_out(self, accepted: socket.socket, peer: SocketAddress) -> bool:
        """Whether a connection comes from where too many have come to nothing; this user's own never count."""
        try:
            own = accepted.getsockname()
        except OSError:
            return False
        host = host_of(own, peer)
        if not self._strangers.are_shut_out(host) or (host is THIS_MACHINE and is_same_user(own, peer)):
            return False
        text = "Closing connections from %s to %s at once: too many of them have come to nothing"
        self._complaints.say("a refused connection", self._address, text, host, self._address)
        return True

    def _wait_for_better_times(self, error: OSError) -> None:
        """Pause: the listening socket stays readable, so that the loop would do nothing but try to accept."""
        self._complaints.say(
            "accept",
            self._address,
            "Cannot accept connections at %s: %s; this process has too many of them, or of files, open (`ulimit -n`). "
            "Tried again until it can",
            self._address,
            error,
            level=logging.ERROR,
        )
        self._loop.remove_reader(self.sock.fileno())
        self._pause = self._loop.call_later(PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self.sock.fileno(), self._accept)
        self._accept()

    async def _connect(self, accepted: socket.socket, peer: SocketAddress) -> None:
        speaks = False
        try:
            async with asyncio.timeout(self._timeout):
                if self._context is not None:
                    speaks = await self._expect_tls(accepted)
                await self._loop.connect_accepted_socket(self._make_protocol, accepted, ssl=self._context)
        except (OSError, ssl.SSLError, ssl.CertificateError) as error:
            host = None if accepted.fileno() < 0 else host_of(accepted.getsockname(), peer)
            if host is not None and host is not THIS_MACHINE:
                self._strangers.note_failure(host)
            accepted.close()
            if not speaks and not isinstance(error, CommClosedError):
                return  # the peer has gone, or has sent nothing
            name, reason = unparse_host_port(peer[0], peer[1]), str(error) or "the TLS handshake broke off"
            text = "Refused the connection from %s to %s: %s"
            kind = f"a refused connection: {type(error).__name__}"
            self._complaints.say(kind, f"tls://{name}", text, name, self._address, reason)
        except BaseException:
            accepted.close()
            raise

    async def _expect_tls(self, accepted: socket.socket) -> bool:
        """Wait for the peer's first bytes; a peer that does not use TLS gets the alert with which TLS servers refuse.

        Returns:
            Whether the peer has sent anything.

        Raises:
            CommClosedError: the peer speaks headrace's protocol without TLS.
        """
        readable = self._loop.create_future()
        self._loop.add_reader(accepted.fileno(), _settle, readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(accepted.fileno())
        first = accepted.recv(len(MAGIC), socket.MSG_PEEK)
        if first == MAGIC:
            with contextlib.suppress(OSError):
                # Closing a socket with unread bytes resets the connection, and the peer would lose the alert.
                accepted.recv(1 << 16)
                accepted.send(TLS_ALERT)
            raise CommClosedError("it does not use TLS; use a tls:// address there")
        return bool(first)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
