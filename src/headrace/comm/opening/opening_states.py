"""The opening of a connection as a pure state machine: greetings, proofs of the token, then what each end tells.

Both ends send a greeting of fixed size at once: version, role, what they ask for, a random number. From the two
greetings both ends know whether the connection is encrypted from here on. Then

- the connecting end sends its proofs;
- the listening end checks, and answers with a verdict, its own proof, and what it tells of itself;
- the connecting end checks, and sends what it tells of itself, so that neither end tells anything to a stranger, and
  none is open while the other has refused.

A proof is HMAC-SHA-256, with the token as key, over the side that proves, both greetings, and the digest of the
listening end's certificate. So a proof is good for one connection, one direction, one pair of roles and one
certificate; a man in the middle, who has a certificate of his own, can show neither end a proof of the other. The token
never travels. The listening end shows no proof to anybody who has not shown one. Nothing is decoded, apart from fields
of fixed sizes, before the end that sent it is admitted. (RFC 2104; the binding is RFC 5929's.)

An end needs no proof from one that it knows in another way: its certificate was checked, or it belongs to the same user
on the same machine (`headrace.auth.socket_owner`). The first bytes, up to the version, are those of all versions.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec

from headrace.auth.access_rules import AUTO, OFF, REQUIRED, ROLES, AccessRules
from headrace.auth.token_places import REMEDY
from headrace.auth.tokens import MOST, Tokens
from headrace.exceptions import (
    CommClosedError,
    EncryptionRequiredError,
    FatalCommClosedError,
    NotAdmittedError,
    ProtocolVersionError,
)

from .handshake import MAGIC, PROTOCOL_VERSION, describe, looks_like_tls, package_version

#: Longest text that an end tells of itself, in bytes.
MAX_INFO_BYTES = 64 * 1024
#: Bytes of a random number, and of a proof.
NONCE_BYTES, PROOF_BYTES = 32, 32
#: Bytes of a package's version.
_PACKAGE_BYTES = 16

_length = struct.Struct("<I")
# A greeting's body is a map of msgpack, as in all versions: "protocol", "package", and our fields as "hello".
_fields = struct.Struct(f"<cBBB12x{NONCE_BYTES}s")
_BEFORE_VERSION = b"\x83\xa8protocol"
_PACKAGE = b"\xa7package" + bytes([0xA0 | _PACKAGE_BYTES])
_HELLO = b"\xa5hello\xc4" + bytes([_fields.size])
_BODY_BYTES = len(_BEFORE_VERSION) + 1 + len(_PACKAGE) + _PACKAGE_BYTES + len(_HELLO) + _fields.size
_START_BYTES = len(MAGIC) + _length.size
#: Bytes up to the version, and of a whole greeting.
_PREFIX_BYTES = _START_BYTES + len(_BEFORE_VERSION) + 1
GREETING_BYTES = _START_BYTES + _BODY_BYTES

_proofs = struct.Struct(f"<BB{MOST * PROOF_BYTES}s")
_verdict = struct.Struct(f"<BB{PROOF_BYTES}s")
#: What a greeting says by bits: that proofs are asked for; that the other end is known and need not prove; that the
#: other end is on this machine; that this end can encrypt.
_ASKS, _KNOWS, _LOCAL, _CAN_ENCRYPT = 1, 2, 4, 8
_CONNECTS, _LISTENS = b"C", b"L"
_ENCRYPTION = (OFF, AUTO, REQUIRED)
#: Verdicts.
_ADMITTED, _NONE_SHOWN, _WRONG, _NONE_HERE = 0, 1, 2, 3
#: The digest where no certificate is.
NOT_ENCRYPTED = bytes(32)


@dataclass(frozen=True, slots=True)
class OpeningChannel:
    """What an end knows of the connection below.

    Attributes:
        peer: the other end's address, for messages.
        local: whether the other end is on this machine.
        can_encrypt: whether TLS can begin on it.
        checked: whether TLS is on already, and has checked the other end's certificate.
        is_same_user: tells whether the other end belongs to this process's user on this machine.
        tells_users: whether this system tells users at all, so that one who is not the same is another.
    """

    peer: str
    local: bool = False
    can_encrypt: bool = False
    checked: bool = False
    is_same_user: Callable[[], bool] = lambda: False
    tells_users: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes to the other end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Encrypt:
    """Begin with TLS, as the server if this end listens; then call `Opening.encrypted`. Read nothing before."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Each end has admitted the other; `info` is what the other end tells of itself."""

    info: dict[str, Any]


Effect: TypeAlias = Send | Encrypt | Opened


@dataclass(frozen=True, slots=True)
class Greeting:
    """The fields of a greeting, and its bytes."""

    data: bytes
    side: bytes
    role: int
    flags: int
    encryption: int

    def says(self, bit: int) -> bool:
        return bool(self.flags & bit)


class State(Enum):
    """What an opening waits for."""

    PREFIX = auto()
    GREETING = auto()
    OTHER_GREETING = auto()
    TLS = auto()
    PROOFS = auto()
    VERDICT = auto()
    INFO_LENGTH = auto()
    INFO = auto()
    OPENED = auto()
    FAILED = auto()


class Opening:
    """One end's part in the opening of a connection.

    Args:
        listens: whether this end has accepted the connection; else it has made it.
        rules: what this end shows and asks for.
        info: what it tells of itself once the other end is admitted.
        channel: what it knows of the connection.
        nonce: random bytes; for tests.

    Attributes:
        state: what it waits for.
        is_encrypted: whether it has begun with TLS.
    """

    def __init__(
        self,
        *,
        listens: bool,
        rules: AccessRules,
        info: dict[str, Any],
        channel: OpeningChannel,
        nonce: bytes | None = None,
    ) -> None:
        self.state = State.PREFIX
        self.is_encrypted = False
        self.started = False
        self._listens = listens
        self._rules = rules
        self._info = info
        self._channel = channel
        self._certificate = NOT_ENCRYPTED
        self._data = bytearray()
        self._found_tokens: Tokens | None = None
        self._needs_proof = False
        self._own = _greeting(listens, rules, channel, os.urandom(NONCE_BYTES) if nonce is None else nonce)
        self._peer: Greeting
        self._info_bytes = self._announced = 0

    @property
    def greeting(self) -> bytes:
        """The bytes with which this end begins, as soon as there is a connection."""
        return self._own.data

    @property
    def knows_peer(self) -> bool:
        """Whether this end, which listens, knew the other end when the connection began, without a proof."""
        return self._own.says(_KNOWS)

    @property
    def wanted(self) -> int:
        """Bytes that may be read now: never more, since what follows may be encrypted, or be no part of the opening."""
        return max(0, self._whole() - len(self._data))

    def _whole(self) -> int:
        """Bytes of the message that this end waits for."""
        match self.state:
            case State.PREFIX:
                return _PREFIX_BYTES
            case State.GREETING:
                return GREETING_BYTES
            case State.OTHER_GREETING:
                return self._announced
            case State.PROOFS:
                return _proofs.size
            case State.VERDICT:
                return _verdict.size
            case State.INFO_LENGTH:
                return _length.size
            case State.INFO:
                return self._info_bytes
        return 0

    def feed(self, data: bytes | memoryview) -> list[Effect]:
        """Take bytes that were read, at most `wanted`; returns what is to be done now, in this order.

        Raises:
            CommClosedError: the other end does not speak headrace's protocol, or sends what makes no sense.
            ProtocolVersionError: it speaks another version.
            NotAdmittedError: one end does not admit the other. `last_words` has what is to be sent before the end.
            EncryptionRequiredError: one end requires encryption, and the other has none.
        """
        self.started = True
        if len(data) > self.wanted:
            raise AssertionError("more was read than was wanted")
        self._data += data
        try:
            return self._take_what_is_whole()
        except BaseException:
            self.state = State.FAILED
            raise

    def _take_what_is_whole(self) -> list[Effect]:
        seen = bytes(self._data)
        if self.state is State.PREFIX:
            self._check_start(seen)
        if len(seen) < self._whole():
            return []
        if self.state is not State.PREFIX:  # which is part of the greeting
            self._data.clear()
        return self._take(seen)

    #: What the listening end sends to one that it does not admit.
    last_words = b""

    def _take(self, seen: bytes) -> list[Effect]:
        match self.state:
            case State.PREFIX:
                return self._on_prefix(seen)
            case State.GREETING:
                return self._on_greeting(seen)
            case State.OTHER_GREETING:
                return self._on_other_version(seen)
            case State.PROOFS:
                return self._on_proofs(seen)
            case State.VERDICT:
                return self._on_verdict(seen)
            case State.INFO_LENGTH:
                (self._info_bytes,) = _length.unpack(seen)
                if not 0 < self._info_bytes <= MAX_INFO_BYTES:
                    raise CommClosedError(
                        f"malformed handshake: {self._info_bytes} bytes announced, at most {MAX_INFO_BYTES} allowed"
                    )
                self.state = State.INFO
                return []
            case State.INFO:
                return self._on_info(seen)
        raise AssertionError(f"nothing is read in the state {self.state}")

    def _check_start(self, seen: bytes) -> None:
        """Refuse what no version would send, as soon as it shows."""
        if seen[: len(MAGIC)] != MAGIC[: len(seen)]:
            kind = FatalCommClosedError if looks_like_tls(seen) else CommClosedError
            raise kind(f"the other side does not speak headrace's protocol: {describe(seen)}")
        if len(seen) >= _START_BYTES:
            (size,) = _length.unpack_from(seen, len(MAGIC))
            if not len(_BEFORE_VERSION) < size <= MAX_INFO_BYTES:
                raise CommClosedError(f"malformed handshake: {size} bytes announced, {_BODY_BYTES} expected")
        entry = seen[_START_BYTES:][: len(_BEFORE_VERSION)]
        # Other versions have another number of entries, not another first one.
        if entry and (entry[0] >> 4 != 8 or not _BEFORE_VERSION[1:].startswith(entry[1:])):
            raise CommClosedError("malformed handshake: it does not say its version first")

    def _on_prefix(self, seen: bytes) -> list[Effect]:
        (size,) = _length.unpack_from(seen, len(MAGIC))
        version = seen[-1]
        if version != PROTOCOL_VERSION:
            # Bytes that are left unread would reset the connection, and the other end would not get our greeting.
            self.state, self._announced = State.OTHER_GREETING, _START_BYTES + size
            return self._on_other_version(seen) if len(seen) >= self._announced else []
        if size != _BODY_BYTES:
            raise CommClosedError(f"malformed handshake: {size} bytes announced, {_BODY_BYTES} expected")
        self.state = State.GREETING
        return []

    def _on_other_version(self, seen: bytes) -> list[Effect]:
        raise ProtocolVersionError(
            f"{self._channel.peer} speaks protocol version {seen[_PREFIX_BYTES - 1]}, this process version "
            f"{PROTOCOL_VERSION} (headrace {package_version()}): install the same version of headrace on both sides"
        )

    def _on_greeting(self, seen: bytes) -> list[Effect]:
        self._peer = _parse_greeting(seen)
        if self._peer.side == self._own.side:
            raise CommClosedError("malformed handshake: the other side sends back what this one sends, or listens too")
        if self._agree_to_encrypt():
            self.state = State.TLS
            return [Encrypt()]
        return self._prove_or_wait()

    def _agree_to_encrypt(self) -> bool:
        """Whether TLS begins now; both ends come to the same answer.

        Raises:
            EncryptionRequiredError: one end requires it, and the other has none.
        """
        if self._channel.checked:  # TLS is on
            return False
        ends = (self._own, self._peer)
        wishes = {_ENCRYPTION[end.encryption] for end in ends}
        can = all(end.says(_CAN_ENCRYPT) for end in ends) and OFF not in wishes
        if REQUIRED in wishes:
            if not can:
                who = "this process" if _ENCRYPTION[self._own.encryption] == REQUIRED else self._channel.peer
                raise EncryptionRequiredError(
                    f"{who} requires encryption, and the other end has none: set distributed.comm.encryption to auto "
                    "or required on both sides, or use a tls:// or wss:// address"
                )
            return True
        return can and not all(end.says(_LOCAL) for end in ends)

    def encrypted(self, certificate: bytes) -> list[Effect]:
        """TLS is on.

        Args:
            certificate: digest of the listening end's certificate, as this end sees it.
        """
        assert self.state is State.TLS
        self._certificate = certificate
        self.is_encrypted = True
        return self._prove_or_wait()

    # -- the connecting end

    def _prove_or_wait(self) -> list[Effect]:
        if self._listens:
            self.state = State.PROOFS
            return []
        self._needs_proof = self._rules.asks and not self._knows_peer()
        proofs: list[bytes] = []
        if self._needs_proof or (self._peer.says(_ASKS) and not self._peer.says(_KNOWS)):
            proofs = [self._proof(key, _CONNECTS) for key in self._tokens().keys]
        joined = b"".join(proofs) + os.urandom((MOST - len(proofs)) * PROOF_BYTES)
        self.state = State.VERDICT
        return [Send(_proofs.pack(len(proofs), self._needs_proof, joined))]

    def _knows_peer(self) -> bool:
        return self._channel.checked or self._channel.is_same_user()

    def _on_verdict(self, seen: bytes) -> list[Effect]:
        code, proved, proof = _verdict.unpack(seen)
        if code != _ADMITTED:
            raise NotAdmittedError(self._refused_text(code))
        if self._needs_proof:
            expected = [self._proof(key, _LISTENS) for key in self._tokens().keys]
            if not proved or not _is_one_of(proof, expected):
                raise NotAdmittedError(self._distrust_text())
        self.state = State.INFO_LENGTH
        return [Send(self._packed_info())]

    def _refused_text(self, code: int) -> str:
        peer, role, tokens = self._channel.peer, self._rules.role, self._tokens()
        why = {
            _NONE_SHOWN: f"it asks for the token of its cluster, and this process has none ({tokens.problem})",
            _WRONG: f"the token of this process (from {tokens.source}) is not that of its cluster, or something "
            "between them, such as a proxy, changes what they say",
            _NONE_HERE: "it has no token itself, and so admits nobody but its own user on its own machine",
        }.get(code, "it does not say why")
        return f"{peer} does not admit this {role}: {why}; {REMEDY}"

    def _distrust_text(self) -> str:
        peer, tokens = self._channel.peer, self._tokens()
        if not self._peer.says(_ASKS):
            return (
                f"{peer} is open to everybody, and has not shown that it belongs to this process's cluster: if that is "
                "meant to be so, set distributed.comm.auth to none here, too "
                "(DASK_DISTRIBUTED__COMM__AUTH=none, or --no-auth)"
            )
        if not tokens:
            return (
                f"{peer} cannot show that it belongs to this process's cluster, since this process has no token "
                f"({tokens.problem}); {REMEDY}"
            )
        return f"{peer} does not hold the token of this process (from {tokens.source}); {REMEDY}"

    # -- the listening end

    def _on_proofs(self, seen: bytes) -> list[Effect]:
        count, wants_proof, joined = _proofs.unpack(seen)
        if count > MOST or wants_proof > 1:
            raise CommClosedError("malformed handshake: the proofs make no sense")
        shown = [joined[number * PROOF_BYTES : (number + 1) * PROOF_BYTES] for number in range(count)]
        known = self._own.says(_KNOWS) or not self._rules.asks
        key = self._matching_key(shown) if shown and (wants_proof or not known) else None
        if not known and key is None:
            code = _NONE_SHOWN if not shown else _WRONG if self._tokens() else _NONE_HERE
            self.last_words = _verdict.pack(code, 0, bytes(PROOF_BYTES))
            raise NotAdmittedError(self._strangers_text(code))
        proof = bytes(PROOF_BYTES) if key is None else self._proof(key, _LISTENS)
        self.state = State.INFO_LENGTH
        return [Send(_verdict.pack(_ADMITTED, key is not None, proof) + self._packed_info())]

    def _matching_key(self, shown: list[bytes]) -> bytes | None:
        found = None
        for key in self._tokens().keys:
            if _is_one_of(self._proof(key, _CONNECTS), shown):
                found = key
        return found

    def _strangers_text(self, code: int) -> str:
        role = ROLES[self._peer.role]
        if code == _NONE_HERE:
            return f"this process has no token to compare with that of the {role} ({self._tokens().problem}); {REMEDY}"
        what = "shows no token" if code == _NONE_SHOWN else "has another token than this process, or none"
        return f"the {role} there {what}; {REMEDY}"

    # -- both

    def _tokens(self) -> Tokens:
        if self._found_tokens is None:
            self._found_tokens = self._rules.tokens_if_any()
        return self._found_tokens

    def _proof(self, key: bytes, side: bytes) -> bytes:
        connecting, listening = (self._peer, self._own) if self._listens else (self._own, self._peer)
        told = b"headrace proof " + side + connecting.data + listening.data + self._certificate
        return hmac.digest(key, told, sha256)

    def _packed_info(self) -> bytes:
        body = msgspec.msgpack.encode(self._info)
        return _length.pack(len(body)) + body

    def _on_info(self, seen: bytes) -> list[Effect]:
        try:
            info = msgspec.msgpack.decode(seen, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise CommClosedError(f"malformed handshake: {error}") from error
        self.state = State.OPENED
        return [Opened(info)]


def _is_one_of(proof: bytes, proofs: list[bytes]) -> bool:
    """Compare with all, in the same time whichever it is."""
    found = False
    for each in proofs:
        found |= hmac.compare_digest(proof, each)
    return found


def _greeting(listens: bool, rules: AccessRules, channel: OpeningChannel, nonce: bytes) -> Greeting:
    flags, local = _CAN_ENCRYPT * channel.can_encrypt, channel.local
    if rules.asks:
        flags |= _ASKS
        if listens and (channel.checked or channel.is_same_user()):
            flags |= _KNOWS
        elif listens and channel.tells_users:
            # Another user here may have taken a port that the connecting end believes to be ours, and pass on what
            # both say: such a connection is encrypted, as if it came from elsewhere.
            local = False
    flags |= _LOCAL * local
    side, role = _LISTENS if listens else _CONNECTS, ROLES.index(rules.role)
    encryption = _ENCRYPTION.index(rules.encryption)
    package = package_version().encode()[:_PACKAGE_BYTES].ljust(_PACKAGE_BYTES)
    body = _BEFORE_VERSION + bytes([PROTOCOL_VERSION]) + _PACKAGE + package + _HELLO
    body += _fields.pack(side, role, flags, encryption, nonce)
    return Greeting(MAGIC + _length.pack(len(body)) + body, side, role, flags, encryption)


def _parse_greeting(data: bytes) -> Greeting:
    side, role, flags, encryption, _ = _fields.unpack_from(data, GREETING_BYTES - _fields.size)
    if side not in (_CONNECTS, _LISTENS) or role >= len(ROLES) or encryption >= len(_ENCRYPTION):
        raise CommClosedError("malformed handshake: its fields make no sense")
    return Greeting(data, side, role, flags, encryption)
