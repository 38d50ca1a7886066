"""Who may ask a server by HTTP, and what: the user of the server on its machine, and whoever shows a token.

A request has rights by, in this order: the header `Authorization: Bearer TOKEN`; a pass, with which a scheduler hands a
visitor's request to a worker; its connection, if that comes from this user, or root, on this machine; the cookie of a
browser that has logged in by a link.

A browser of this user may be lured to an address of somebody else's that leads to this machine (DNS rebinding), and
its connection is this user's. So such a connection counts only where the request names this machine, or comes by
a proxy that passes on the name that it is known by.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace import config
from headrace.auth.access_rules import AccessRules
from headrace.auth.signed_claims import FULL, PASS, READ, checked_claim, signed_claim
from headrace.auth.tokens import Tokens

from .cross_site import READING
from .login_links import LoginCodes, rights_of_cookies, set_cookie_text
from .request_handler import ALL, SCRAPERS

#: Ports that addresses mean which name none.
USUAL_PORTS = {"http": 80, "https": 443}
#: Seconds for which a pass is good: as long as clocks of machines may differ.
PASS_SECONDS = 300
#: Seconds to find this machine's full name, which may have to be asked of another machine.
NAME_SECONDS = 2.0
#: The header with a pass.
PASS_HEADER = "Headrace-Pass"

#: The header of refusals that says how to be admitted (RFC 6750).
CHALLENGE = {"WWW-Authenticate": "Bearer"}
REFUSED = (
    "this is for those who belong to this cluster: open a link with ?login=… from the scheduler's output or from a "
    "client in a notebook, or send the header 'Authorization: Bearer TOKEN' (`headrace token` prints the token)"
)
READ_ONLY = "the token that was shown allows to read, and this is more: show the full token"


@dataclass(frozen=True, slots=True)
class Asking:
    """What counts of a request when it is decided who asks.

    Attributes:
        method: "GET" etc.
        target: path and query, as sent.
        host: the header `Host`; None if there is none.
        scheme: "http" or "https".
        port: that the connection has come to.
        authorization: the header of that name, or "".
        cookies: the headers `Cookie`.
        shown_pass: the header with a pass, or "".
        is_same_user: tells whether the connection comes from this user on this machine.
    """

    method: str
    target: str
    host: str | None
    scheme: str
    port: int
    authorization: str = ""
    cookies: tuple[str, ...] = ()
    shown_pass: str = ""
    is_same_user: Callable[[], bool] = field(default=lambda: False)


class HttpAccess:
    """Decides what the requests to one server may.

    Args:
        rules: of the server; without a token for anybody, all may do all.
        address: gives the server's own address, for which passes are made.
    """

    def __init__(self, rules: AccessRules, address: Callable[[], str]) -> None:
        self.asks = rules.asks
        self.open_metrics = config.truth("distributed.dashboard.open-metrics")
        self._rules = rules
        self._address = address
        self._codes = LoginCodes()
        self.allowed_hosts = frozenset(host.lower() for host in config.texts("distributed.dashboard.allowed-hosts"))
        self._own_name = socket.gethostname().lower()
        self._full_name: asyncio.Future[str] | None = None

    def is_open(self, open_to: str) -> bool:
        """Whether anybody may ask what is open to "all", "scrapers" or "members"."""
        return not self.asks or open_to == ALL or (open_to == SCRAPERS and self.open_metrics)

    def tokens(self) -> Tokens:
        """The tokens of the server; none if they cannot be had."""
        return self._rules.tokens_if_any()

    async def rights_of(self, asking: Asking) -> str | None:
        """What a request may: "full", "read", or None for nothing."""
        if not self.asks:
            return FULL
        rights = self._shown_rights(asking)
        if rights is None and asking.is_same_user() and await self.names_this_machine(asking):
            rights = FULL
        if rights is None and asking.cookies:
            rights = rights_of_cookies(asking.cookies, asking.port, self.tokens(), time.time())
        return rights

    def _shown_rights(self, asking: Asking) -> str | None:
        token = bearer_token(asking.authorization)
        if token is not None:
            rights = self.tokens().rights_of(token)
            if rights is not None:
                return rights
        if asking.shown_pass:
            about = _about(self._address(), asking.method, asking.target)
            claim = checked_claim(asking.shown_pass, self.tokens(), PASS, time.time(), about)
            return claim.rights if claim is not None else None
        return None

    async def names_this_machine(self, asking: Asking) -> bool:
        """Whether a request of this user's says that its browser means this machine, or a proxy of this user's."""
        name = name_to_check(asking.host, asking.scheme, asking.port)
        if name is None or is_own_name(name, {self._own_name, *self.allowed_hosts}):
            return True
        short = self._own_name.partition(".")[0]
        return name.partition(".")[0] == short and name == await self._find_full_name()

    def refusal(self, asking: Asking) -> str:
        """The sentence for a request without rights: what to do to have some."""
        name = name_to_check(asking.host, asking.scheme, asking.port)
        if name is None or not asking.is_same_user():
            return REFUSED
        return (
            f"this address names {name[:100]!r}, which is not known to be this machine: name it localhost or by its IP "
            "address, with the same port, or add the name to the setting distributed.dashboard.allowed-hosts"
        )

    async def _find_full_name(self) -> str:
        if self._full_name is None:
            self._full_name = asyncio.get_running_loop().run_in_executor(None, socket.getfqdn)
        await asyncio.wait([self._full_name], timeout=NAME_SECONDS)
        return self._full_name.result().lower() if self._full_name.done() else self._own_name

    def log_in(self, code: str, asking: Asking, path: str) -> str:
        """The header `Set-Cookie` for a browser that shows a code.

        Args:
            path: below which the server's pages are.

        Raises:
            LoginRefusedError: the code cannot be used.
        """
        tokens, now = self.tokens(), time.time()
        rights = self._codes.use(code, tokens, now)
        return set_cookie_text(tokens, rights, now, asking.port, path, asking.scheme == "https")

    def pass_for(self, address: str, rights: str, method: str, target: str) -> dict[str, str]:
        """The headers with which a visitor's request is passed on to a worker; none without a token.

        A token would be told to whoever listens on the way, or at the port of a worker that is gone. A pass is
        of no use for anything but this request.

        Args:
            address: the worker's.
            rights: of the visitor, "full" or "read".
        """
        tokens = self.tokens() if self.asks else Tokens()
        if not tokens:
            return {}
        about = _about(address, method, target)
        return {PASS_HEADER: signed_claim(tokens, PASS, rights, time.time() + PASS_SECONDS, about)}


def bearer_token(authorization: str) -> str | None:
    """The token in a header `Authorization`, if it is of that kind (RFC 6750)."""
    kind, _, token = authorization.partition(" ")
    token = token.strip()
    return token if kind.lower() == "bearer" and token.isascii() else None


def _about(address: str, method: str, target: str) -> str:
    return "\n".join((address, method, target))


def may_do(rights: str | None, method: str, acts: bool = False) -> bool:
    """Whether rights allow a request.

    Args:
        acts: whether it does more than its method says.
    """
    return rights == FULL or (rights == READ and method in READING and not acts)


def name_to_check(host: str | None, scheme: str, port: int) -> str | None:
    """The name that a request gives to the server, if the name counts: in lower case, "" if it is malformed.

    None for programs, which name none, and for proxies that pass on what they are asked: a browser that connects here
    says the port, unless it is the usual one.

    Args:
        host: the header `Host`.
        port: that the connection has come to.
    """
    if not host:
        return None
    name, named_port = _split_host(host.strip().lower())
    if named_port is None and name and USUAL_PORTS.get(scheme) != port:
        return None
    return name


def _split_host(host: str) -> tuple[str, int | None]:
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        name = name if bracket and is_ip(name) and rest[:1] in ("", ":") else ""
        port = rest[1:]
    else:
        name, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return "", None
    return name.removesuffix("."), int(port[:6]) if port else None


def is_own_name(name: str, names: set[str]) -> bool:
    """Whether a name is this machine's: an IP address, `localhost`, or one of some; "*" among them stands for any."""
    local = name == "localhost" or name.endswith(".localhost")
    return local or is_ip(name) or name in names or ("*" in names and name != "")


def is_ip(name: str) -> bool:
    """Whether a name is an IP address, which nobody else can have lead here."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
