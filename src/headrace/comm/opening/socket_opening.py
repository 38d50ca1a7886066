"""Runs the opening of one connection on its transport: reads no more than `Opening` wants, begins TLS where told."""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

from headrace.auth import own_certificate
from headrace.auth.access_rules import AccessRules
from headrace.auth.socket_owner import TELLS_USERS, THIS_MACHINE, host_of, is_local, is_same_user
from headrace.exceptions import CommClosedError, FatalCommClosedError

from .opening_states import MAX_INFO_BYTES, Encrypt, Opened, Opening, OpeningChannel, Send, State

#: Bytes that may have come by the time that this end knows that TLS is on.
_MOST_EARLY = 2 * MAX_INFO_BYTES
#: Bytes that are read at a time once TLS is on.
_BUFFER_BYTES = 4096


class OpeningProtocol(asyncio.BufferedProtocol, ABC):
    """What has the connection, and is told how its opening goes."""

    @abstractmethod
    def on_encrypted(self, transport: asyncio.Transport) -> None:
        """The connection has another transport from here on."""

    @abstractmethod
    def on_opened(self, info: dict[str, Any], rest: memoryview) -> None:
        """Each end has admitted the other; `rest` came after the opening."""

    @abstractmethod
    def on_opening_failed(self, error: Exception) -> None:
        """The connection is of no use."""


class _Nobody(OpeningProtocol):
    """In the place of an owner whose connection has ended."""

    def on_encrypted(self, transport: asyncio.Transport) -> None:
        transport.abort()

    def on_opened(self, info: dict[str, Any], rest: memoryview) -> None:
        pass

    def on_opening_failed(self, error: Exception) -> None:
        pass


class EndedTransport(asyncio.Transport):
    """In the place of a transport whose connection has ended, so that neither keeps the other.

    TLS of asyncio refers to its protocol ever after, and holds a quarter of a megabyte.
    """

    def is_closing(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class SocketOpening:
    """One end's opening.

    Args:
        listens, rules, info: as for `Opening`.
        seconds: that TLS may take.
        can_encrypt: whether TLS can begin on such a connection.
    """

    def __init__(
        self, *, listens: bool, rules: AccessRules, info: dict[str, Any], seconds: float, can_encrypt: bool
    ) -> None:
        self.info = info
        self._listens = listens
        self._rules = rules
        self._seconds = seconds
        self._can_encrypt = can_encrypt
        self._opening: Opening | None = None
        self._owner: OpeningProtocol
        self._transport: asyncio.Transport
        self._buffer = memoryview(b"")
        self._ends: tuple[Any, Any] = (None, None)
        #: what came over TLS before this end knew that it is on
        self._early = bytearray()
        self._encrypting: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """Whether the other end has sent anything."""
        return self._opening is not None and self._opening.started

    @property
    def stranger(self) -> object:
        """The host that the other end is at (see `host_of`); None if it is known, or cannot be."""
        opening, host = self._opening, host_of(*self._ends)
        if opening is None or opening.knows_peer or (host is THIS_MACHINE and not self._rules.asks):
            return None
        return host

    @property
    def last_words(self) -> bytes:
        """What is to be sent to an end that is not admitted."""
        return b"" if self._opening is None else self._opening.last_words

    def begin(self, owner: OpeningProtocol, transport: asyncio.Transport, peer: str) -> None:
        """Greet the other end, at the address `peer`."""
        self._owner, self._transport = owner, transport
        ends = self._ends = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        context = transport.get_extra_info("sslcontext")
        self._opening = Opening(
            listens=self._listens,
            rules=self._rules,
            info=self.info,
            channel=OpeningChannel(
                peer,
                local=is_local(*ends),
                can_encrypt=self._can_encrypt and context is None,
                checked=context is not None and context.verify_mode is ssl.CERT_REQUIRED,
                is_same_user=partial(is_same_user, *ends),
                tells_users=TELLS_USERS,
            ),
        )
        transport.write(self._opening.greeting)

    def end(self) -> None:
        """Let go of the connection, which has ended: it refers to this, and would wait for the cyclic collector."""
        self._owner, self._transport = _Nobody(), EndedTransport()
        if self._encrypting is not None:
            self._encrypting.cancel()

    def get_buffer(self) -> memoryview:
        """Memory to read the next bytes into: no more than what is in clear text, or what this end waits for."""
        assert self._opening is not None
        exact = self._opening.wanted
        self._buffer = memoryview(bytearray(_BUFFER_BYTES if self._opening.is_encrypted else exact or _BUFFER_BYTES))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes that were read.

        Raises:
            CommClosedError: see `Opening.feed`.
        """
        data, self._buffer = self._buffer[:nbytes], memoryview(b"")
        self._take(data)

    def _take(self, data: memoryview) -> None:
        opening = self._opening
        assert opening is not None
        while data:
            if opening.state is State.FAILED:  # TLS delivers what came after the end, too
                return
            if opening.state is State.TLS:
                self._early += data
                if len(self._early) > _MOST_EARLY:
                    raise CommClosedError("malformed handshake: too much came at once")
                return
            size = opening.wanted
            piece, data = data[:size], data[size:]
            for effect in opening.feed(piece):
                if isinstance(effect, Opened):
                    self._owner.on_opened(effect.info, data)
                    return
                self._do(effect)

    def _do(self, effect: Send | Encrypt | Opened) -> None:
        if isinstance(effect, Send):
            self._transport.write(effect.data)
        else:
            assert isinstance(effect, Encrypt)
            self._transport.pause_reading()  # the next bytes are the TLS's
            self._encrypting = asyncio.get_running_loop().create_task(self._encrypt(), name="TLS of a connection")

    async def _encrypt(self) -> None:
        try:
            await self._encrypted()
        except ssl.SSLError as error:
            failure = FatalCommClosedError(f"TLS broke off: {error}")
            failure.__cause__ = error
            self._owner.on_opening_failed(failure)
        except ImportError as error:
            text = f"cannot encrypt: {error}; `pip install cryptography`, or set distributed.comm.encryption: off"
            self._owner.on_opening_failed(FatalCommClosedError(text))
        except Exception as error:  # what the loop raises for a connection that breaks, or takes too long
            broken = error if isinstance(error, OSError) else CommClosedError(f"TLS broke off: {error!r}")
            self._owner.on_opening_failed(broken)

    async def _encrypted(self) -> None:
        loop, opening = asyncio.get_running_loop(), self._opening
        assert opening is not None
        digest = b""
        if self._listens:
            context, digest = await loop.run_in_executor(None, own_certificate.listening)
        else:
            context = own_certificate.connecting()
        transport = await loop.start_tls(
            self._transport,
            self._owner,
            context,
            server_side=self._listens,
            ssl_handshake_timeout=self._seconds,
        )
        if transport is None:
            raise ConnectionResetError("the connection ended as TLS began")
        self._transport = transport
        self._owner.on_encrypted(transport)
        if not self._listens:
            digest = own_certificate.digest_of(transport.get_extra_info("ssl_object").getpeercert(binary_form=True))
        for effect in opening.encrypted(digest):
            self._do(effect)
        early, self._early = self._early, bytearray()
        self._take(memoryview(bytes(early)))
