"""Tokens: the secrets that show who belongs to a cluster. Whoever has one may do all that its user may.

A token is text. At most two are valid at once, so that one can take the other's place while everything runs. From each
follows a second one that only allows to read; it does not tell the first.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass
from hashlib import sha256

#: Tokens that may be valid at once.
MOST = 2
#: Bytes of chance in a token that is made here.
TOKEN_BYTES = 32
#: Characters below which a token is too easy to guess for a proof that strangers may ask for.
SHORTEST = 16
_READ_ONLY = b"headrace: read only"


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """The tokens that are valid in a process.

    Attributes:
        valid: the current token, and perhaps the one before it or after it.
        source: where they were found, for messages.
        problem: why there are none, for messages.
    """

    valid: tuple[str, ...] = ()
    source: str = ""
    problem: str = ""

    def __bool__(self) -> bool:
        return bool(self.valid)

    def __repr__(self) -> str:  # tokens must not get into logs
        return f"<Tokens: {len(self.valid)} from {self.source or 'nowhere'}>"

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The tokens as keys of HMAC."""
        return tuple(token.encode() for token in self.valid)

    def rights_of(self, shown: str) -> str | None:
        """What a token that somebody shows allows: "full", "read" or None; in the same time, whichever it is."""
        rights, given = None, shown.encode(errors="surrogatepass")
        for token in self.valid:
            if hmac.compare_digest(given, token.encode()):
                rights = "full"
            if hmac.compare_digest(given, read_only_token(token).encode()) and rights is None:
                rights = "read"
        return rights


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def read_only_token(token: str) -> str:
    """The token that allows to read what a full one allows to change."""
    digest = hmac.digest(token.encode(), _READ_ONLY, sha256)
    return "read-" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def parse_tokens(text: str, source: str) -> Tokens:
    """The tokens in a text: one a line, the current one first; empty lines and those that begin with # do not count.

    Args:
        source: what the text is, for errors, which do not show the text.

    Raises:
        ValueError: there is none, there are too many, or one is too short or has spaces or other than ASCII in it.
    """
    lines = [line.strip() for line in text.splitlines()]
    found = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not found:
        raise ValueError(f"{source} holds no token: put one in, as `headrace token new --print` makes them")
    if len(found) > MOST:
        raise ValueError(f"{source} holds {len(found)} tokens; at most {MOST} may be valid at once")
    for token in found:
        if len(token) < SHORTEST:
            raise ValueError(
                f"{source} holds a token of {len(token)} characters, which could be guessed; it needs at least "
                f"{SHORTEST}: take one from `headrace token new --print`"
            )
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError(f"{source} holds a token with spaces or characters other than ASCII")
    return Tokens(found, source)
