"""Short texts that show what the token allows without telling the token: codes of links, cookies, passes.

A claim says rights and until when, and has a random number and a proof: HMAC-SHA-256 over all that, over its purpose
and over what it is about (RFC 2104). The key is the token, or, for the right to read, the token that allows no more.
Pure: the time is an argument.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit, urlunsplit

from .tokens import Tokens, read_only_token

#: What claims allow.
FULL, READ = "full", "read"
#: What they are for: to log in by a link; to stay logged in; to be passed on from a scheduler to a worker.
LOGIN, SESSION, PASS = "login", "session", "pass"
#: Seconds for which a code of a link is good.
LOGIN_SECONDS = 600
_RANDOM_BYTES = 16
_TEXT = re.compile(r"(full|read)-([0-9]{1,12})-([A-Za-z0-9_-]{22})-([A-Za-z0-9_-]{43})")
#: Name of the argument of links that holds a code.
ARGUMENT = "login"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a text claims whose proof was checked.

    Attributes:
        rights: "full" or "read".
        expires: seconds since the epoch.
        nonce: a random number, another for each claim.
    """

    rights: str
    expires: int
    nonce: str


def signed_claim(tokens: Tokens, purpose: str, rights: str, expires: float, about: str = "") -> str:
    """A claim as text, for those who hold these tokens; the current one proves it.

    Args:
        purpose: "login", "session" or "pass".
        rights: "full" or "read".
        expires: when it ends, in seconds since the epoch.
        about: what else it holds for; whoever checks it must know the same.

    Raises:
        ValueError: there is no token, or there are no such rights.
    """
    if not tokens:
        raise ValueError(f"there is no token ({tokens.problem})" if tokens.problem else "there is no token")
    if rights not in (FULL, READ):
        raise ValueError(f"rights are {FULL!r} or {READ!r}, not {rights!r}")
    nonce = _text_of(secrets.token_bytes(_RANDOM_BYTES))
    claim = Claim(rights, int(expires), nonce)
    return f"{rights}-{claim.expires}-{nonce}-{_proof(tokens.valid[0], purpose, claim, about)}"


def checked_claim(text: str, tokens: Tokens, purpose: str, now: float, about: str = "") -> Claim | None:
    """The claim in a text; None if none of the tokens proves it, or it has ended.

    Args:
        now: seconds since the epoch.
    """
    claim = proven_claim(text, tokens, purpose, about)
    return claim if claim is not None and now < claim.expires else None


def proven_claim(text: str, tokens: Tokens, purpose: str, about: str = "") -> Claim | None:
    """The claim in a text, also if it has ended; None if none of the tokens proves it."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    claim = Claim(match[1], int(match[2]), match[3])
    proven = False
    for token in tokens.valid:
        proven |= hmac.compare_digest(match[4], _proof(token, purpose, claim, about))
    return claim if proven else None


def looks_signed(text: str) -> bool:
    """Whether a text has the form of a claim."""
    return _TEXT.fullmatch(text) is not None


def login_code(tokens: Tokens, rights: str, now: float) -> str:
    """A code with which a browser can log in once, at any one server of those who hold these tokens.

    Args:
        rights: "full" or "read".
        now: seconds since the epoch; the code is good for ten minutes from then.

    Raises:
        ValueError: as of `signed_claim`.
    """
    return signed_claim(tokens, LOGIN, rights, now + LOGIN_SECONDS)


def link_with_code(link: str, code: str) -> str:
    """The address of a page with a code to log in.

    >>> link_with_code("http://host:8787/status", "x")
    'http://host:8787/status?login=x'
    """
    parts = urlsplit(link)
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}{ARGUMENT}={code}"))


def _proof(token: str, purpose: str, claim: Claim, about: str) -> str:
    key = token if claim.rights == FULL else read_only_token(token)
    told = "\n".join(("headrace claim", purpose, claim.rights, str(claim.expires), claim.nonce, about))
    return _text_of(hmac.digest(key.encode(), told.encode("utf-8", "surrogateescape"), sha256))


def _text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
