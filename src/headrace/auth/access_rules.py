"""What one end of a connection shows of itself, and asks of the other before it listens to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from headrace import config

from .token_places import find_tokens
from .tokens import Tokens

#: Whether a proof is asked for (`distributed.comm.auth`).
TOKEN, NONE = "token", "none"
#: How connections beyond this machine are encrypted (`distributed.comm.encryption`).
AUTO, OFF, REQUIRED = "auto", "off", "required"
ROLES = ("client", "worker", "nanny", "scheduler")


@dataclass(frozen=True, slots=True)
class AccessRules:
    """How one end opens its connections.

    Attributes:
        role: "client", "worker", "nanny" or "scheduler".
        auth: "token": the other end must hold the token, or belong to this user on this machine, or have a certificate
            that was checked. "none": anybody will do.
        encryption: "auto": connections beyond this machine are encrypted if the other end does so too; "off";
            "required": all are.
        tokens: gives the tokens, when they are first needed.
    """

    role: str
    auth: str = TOKEN
    encryption: str = AUTO
    tokens: Callable[[], Tokens] = field(default=find_tokens)

    def __post_init__(self) -> None:
        _check("role", self.role, ROLES)
        _check("distributed.comm.auth", self.auth, (TOKEN, NONE))
        _check("distributed.comm.encryption", self.encryption, (AUTO, OFF, REQUIRED))

    @property
    def asks(self) -> bool:
        """Whether this end asks for a proof."""
        return self.auth != NONE

    def current_token(self) -> str | None:
        """The token by which others are admitted; None if no proof is asked for, or there is none.

        Raises:
            ValueError, OSError: something is configured, or in a file, that cannot be used.
        """
        tokens = self.tokens().valid if self.asks else ()
        return tokens[0] if tokens else None

    def tokens_if_any(self) -> Tokens:
        """The tokens; where they cannot be had, none, with the reason."""
        try:
            return self.tokens()
        except (OSError, ValueError) as error:
            return Tokens(problem=str(error))


def configured(role: str) -> AccessRules:
    """How a role opens connections by the configuration.

    Raises:
        ValueError: a setting is none of the values that there are.
    """
    return AccessRules(role, configured_auth(), configured_encryption())


def configured_auth() -> str:
    """The setting `distributed.comm.auth`; what YAML takes for "no value" or "off" means none."""
    value = config.get("distributed.comm.auth")
    return NONE if value is None or value is False else str(value)


def configured_encryption() -> str:
    """The setting `distributed.comm.encryption`; YAML reads a plain `off` as false."""
    value = config.get("distributed.comm.encryption")
    return OFF if value is None or value is False else str(value)


def _check(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what} is one of {', '.join(known)}, not {value!r}")
