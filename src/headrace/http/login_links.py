"""What a browser logs in with: links that are good once, and the cookie that it gets for one.

Servers keep no sessions: a cookie proves itself, with the token, until it ends or the token is gone. Pure: the time is
an argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from headrace.auth.signed_claims import (
    ARGUMENT,
    LOGIN,
    LOGIN_SECONDS,
    SESSION,
    checked_claim,
    link_with_code,
    login_code,
    looks_signed,
    proven_claim,
    signed_claim,
)
from headrace.auth.tokens import Tokens

__all__ = ["LoginCodes", "LoginRefusedError", "link_with_code", "login_code"]

#: Seconds for which a cookie is good.
COOKIE_SECONDS = 30 * 86400
#: Codes that were used and have not ended; beyond, no other is taken.
MOST_USED = 10_000


class LoginRefusedError(Exception):
    """A code cannot be used to log in; the text says why."""


class LoginCodes:
    """Takes each code once."""

    def __init__(self) -> None:
        #: when each code ends that was used, by its random number
        self._used: dict[str, int] = {}

    def use(self, code: str, tokens: Tokens, now: float) -> str:
        """The rights that a code gives: "full" or "read".

        Args:
            now: seconds since the epoch.

        Raises:
            LoginRefusedError: it is not of these tokens, has ended, or was used already.
        """
        claim = proven_claim(code, tokens, LOGIN)
        if claim is None:
            raise LoginRefusedError("this link was not made with the token of this cluster")
        if claim.expires <= now:
            raise LoginRefusedError("this link has ended: links are good for ten minutes")
        if claim.expires > now + 2 * LOGIN_SECONDS:
            raise LoginRefusedError("this link was made by a clock that is ahead of this server's by minutes")
        self._forget(now)
        if claim.nonce in self._used:
            raise LoginRefusedError("this link was used already: each is good once")
        if len(self._used) >= MOST_USED:
            raise LoginRefusedError("too many links were used in the last minutes")
        self._used[claim.nonce] = claim.expires
        return claim.rights

    def _forget(self, now: float) -> None:
        """Forget codes that have ended, once there are many, since none of these is taken any more."""
        if len(self._used) >= MOST_USED // 2:
            self._used = {nonce: expires for nonce, expires in self._used.items() if expires > now}


def cookie_name(port: int) -> str:
    """The name of the cookie of the server at a port: browsers give cookies of one port to all of the host."""
    return f"headrace-{port}"


def set_cookie_text(tokens: Tokens, rights: str, now: float, port: int, path: str, secure: bool) -> str:
    """The header `Set-Cookie` with which a browser is logged in.

    Args:
        path: below which it is sent.
        secure: whether it is sent by https only.
    """
    value = signed_claim(tokens, SESSION, rights, now + COOKIE_SECONDS)
    path = path if path.startswith("/") and ";" not in path else "/"
    text = f"{cookie_name(port)}={value}; Max-Age={COOKIE_SECONDS}; Path={path}; HttpOnly; SameSite=Lax"
    return f"{text}; Secure" if secure else text


def rights_of_cookies(headers: Iterable[str], port: int, tokens: Tokens, now: float) -> str | None:
    """The rights that the cookies of a request give: "full", "read" or None.

    Args:
        headers: the values of its headers `Cookie`. Those of other programs may be malformed.
        port: of this server.
    """
    name, best = cookie_name(port), None
    for value in cookie_values(headers, name):
        claim = checked_claim(value, tokens, SESSION, now)
        if claim is not None and best != "full":
            best = claim.rights
    return best


def cookie_values(headers: Iterable[str], name: str) -> list[str]:
    """The values of a cookie that have the form of ours."""
    pairs = [part.strip().partition("=") for header in headers for part in header.split(";")]
    return [value.strip() for key, _, value in pairs if key == name and looks_signed(value.strip())]


def split_code(query: str) -> tuple[str | None, str]:
    """The code in a query, if there is one, and the query without it, as it was sent."""
    kept, code = [], None
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key == ARGUMENT:
            code = unquote(value)
        else:
            kept.append(part)
    return code, "&".join(kept)
