"""Two ends of a pure opening that talk to each other in memory, byte by byte or at once; and one end over a socket."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

from headrace.auth.access_rules import AccessRules
from headrace.auth.tokens import Tokens
from headrace.comm.opening.handshake import handshake_info
from headrace.comm.opening.opening_states import Encrypt, Opened, Opening, OpeningChannel, Send, State


def rules_of(role: str, *tokens: str, auth: str = "token", encryption: str = "auto") -> AccessRules:
    """Rules of an end that has these tokens."""
    return AccessRules(role, auth, encryption, lambda: Tokens(tokens, "a test", "" if tokens else "a test has none"))


@dataclass
class DrivenEnd:
    """One end, with what it has sent.

    Attributes:
        sent: its messages, in order.
        taken: all bytes that it has taken.
        info: what the other end has told it.
        error: why it has failed.
    """

    opening: Opening
    sent: list[bytes] = field(default_factory=list)
    taken: bytearray = field(default_factory=bytearray)
    info: dict[str, Any] | None = None
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.sent.append(self.opening.greeting)

    @property
    def state(self) -> State:
        return self.opening.state

    def take(self, data: bytes, most: int | None = None) -> bytes:
        """Feed bytes, at most so many at a time; returns what it does not take now."""
        while data and (size := self.opening.wanted):
            piece = data[: size if most is None else min(size, most)]
            data = data[len(piece) :]
            self.taken += piece
            try:
                self._do(self.opening.feed(piece))
            except OSError as error:
                self.error = error
                if self.opening.last_words:
                    self.sent.append(self.opening.last_words)
        return data

    def encrypt(self, certificate: bytes) -> None:
        """TLS has come about; the listening end is seen to have this certificate."""
        self._do(self.opening.encrypted(certificate))

    def _do(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.sent.append(effect.data)
            elif isinstance(effect, Opened):
                self.info = effect.info
            else:
                assert isinstance(effect, Encrypt)


def ends(
    connecting: AccessRules,
    listening: AccessRules,
    connecting_channel: OpeningChannel | None = None,
    listening_channel: OpeningChannel | None = None,
) -> tuple[DrivenEnd, DrivenEnd]:
    """A connecting and a listening end."""
    return (
        DrivenEnd(
            Opening(
                listens=False,
                rules=connecting,
                info={"end": "connecting"},
                channel=connecting_channel or OpeningChannel("listener"),
            )
        ),
        DrivenEnd(
            Opening(
                listens=True,
                rules=listening,
                info={"end": "listening"},
                channel=listening_channel or OpeningChannel("connector"),
            )
        ),
    )


def talk(
    connecting: DrivenEnd,
    listening: DrivenEnd,
    certificates: tuple[bytes, bytes] = (b"\1" * 32, b"\1" * 32),
    most: int | None = None,
) -> tuple[DrivenEnd, DrivenEnd]:
    """Pass everything on until neither end has anything to say.

    Args:
        certificates: the listening end's as the connecting end, and as the listening end sees it.
        most: bytes at a time.
    """
    pair = (connecting, listening)
    passed, waiting = [0, 0], [b"", b""]
    busy = True
    while busy:
        busy = False
        if all(end.state is State.TLS for end in pair):
            for end, certificate in zip(pair, certificates, strict=True):
                end.encrypt(certificate)
            busy = True
        for number, end in enumerate(pair):
            other = pair[1 - number]
            new = b"".join(other.sent[passed[number] :])
            passed[number] = len(other.sent)
            before = waiting[number] + new
            waiting[number] = end.take(before, most)
            busy |= waiting[number] != before
    return pair


def open_socket(sock: socket.socket, rules: AccessRules, info: dict[str, Any] | None = None) -> dict[str, Any]:
    """Open a connection as the connecting end over a plain, blocking socket; for rules without encryption.

    Returns:
        What the listening end tells of itself.

    Raises:
        CommClosedError, NotAdmittedError: as `Opening.feed` does.
        ConnectionError: the other end has closed.
    """
    told = handshake_info() if info is None else info
    opening = Opening(listens=False, rules=rules, info=told, channel=OpeningChannel("the listener"))
    sock.sendall(opening.greeting)
    while True:
        data = sock.recv(opening.wanted)
        if not data:
            raise ConnectionError("the other end has closed")
        for effect in opening.feed(data):
            if isinstance(effect, Opened):
                return effect.info
            assert isinstance(effect, Send), "a plain socket cannot be encrypted here"
            sock.sendall(effect.data)
