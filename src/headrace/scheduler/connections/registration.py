"""The words of a worker or a client about itself when it registers: taken if they make sense, else refused in one line.

Pure: values in, values out. Nothing is on record before all of it has been looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

from headrace.comm.addressing import SOCKET_SCHEMES, normalize_address, parse_address, parse_host_port
from headrace.comm.registry import get_backend
from headrace.common.status import Status
from headrace.exceptions import BadRequestError

#: Characters of a name, an address or an identifier.
LONGEST_NAME = 1000
#: Threads of one worker.
MOST_THREADS = 1_000_000
_PLAIN_NAMES = (str, int, float, bytes, type(None))


def checked_address(given: object, what: str) -> str:
    """An address in its normal form.

    Args:
        what: whose, for the error.

    Raises:
        BadRequestError: it is none at which anybody could be reached.
    """
    if not isinstance(given, str) or not given or len(given) > LONGEST_NAME or not given.isprintable():
        raise BadRequestError(f"{what} must be an address such as 'tcp://host:9000', not {_short(given)}")
    try:
        address = normalize_address(given)
        scheme = parse_address(address)[0]
        get_backend(scheme)
        if scheme in SOCKET_SCHEMES and not parse_host_port(address)[0]:
            raise ValueError("it has no host")
    except ValueError as error:
        raise BadRequestError(f"{what} must be an address such as 'tcp://host:9000', not {given!r}: {error}") from None
    return address


def checked_name(given: object, what: str) -> Any:
    """A name that others can use: text, a number, bytes, or a tuple of these.

    Raises:
        BadRequestError: it is something else, or very long.
    """
    if not _is_name(given) or len(repr(given)) > LONGEST_NAME:
        raise BadRequestError(
            f"{what} must be text or a number, at most {LONGEST_NAME} characters, not {_short(given)}"
        )
    return given


def checked_text(given: object, what: str, longest: int = LONGEST_NAME) -> str:
    """Text, empty for None.

    Raises:
        BadRequestError: it is something else, or very long.
    """
    if given is None:
        return ""
    if not isinstance(given, str) or len(given) > longest:
        raise BadRequestError(f"{what} must be text of at most {longest} characters, not {_short(given)}")
    return given


def checked_count(given: Any, what: str, most: float = math.inf) -> int:
    """A whole number that is not negative.

    Raises:
        BadRequestError: it is something else, or more than `most`.
    """
    whole = isinstance(given, Integral) and not isinstance(given, bool)  # also numpy's, within a process
    if not whole and not (isinstance(given, float) and given.is_integer()):
        raise BadRequestError(f"{what} must be a whole number, not {_short(given)}")
    if not 0 <= given <= most:
        raise BadRequestError(f"{what} cannot be {given}")
    return int(given)


def checked_resources(given: object) -> dict[str, float]:
    """Amounts of abstract resources by name.

    Raises:
        BadRequestError: a name that is no text, or an amount that is none.
    """
    amounts = {}
    for name, amount in _mapping(given, "a worker's resources").items():
        if not isinstance(amount, (int, float)) or isinstance(amount, bool) or not amount >= 0:
            raise BadRequestError(f"a worker cannot have {_short(amount)} of the resource {_short(name)}")
        amounts[checked_text(name, "the name of a resource")] = float(amount)
    return amounts


def checked_sizes(given: object) -> dict[Any, int]:
    """Sizes in bytes by key, of the results that a worker holds.

    Raises:
        BadRequestError: it is no dictionary, or a size is none.
    """
    sizes = _mapping(given, "a worker's results")
    return {key: checked_count(nbytes, f"the size of {_short(key)}") for key, nbytes in sizes.items()}


#: What a registration of a worker may say besides, and how it is looked at.
_DETAILS: dict[str, Callable[[Any], Any]] = {
    "server_id": lambda given: checked_text(given, "a worker's identifier"),
    "resources": checked_resources,
    "memory_limit": lambda given: checked_count(given or 0, "a worker's memory limit"),
    "pid": lambda given: checked_count(given or 0, "a worker's process"),
    "services": lambda given: _mapping(given, "a worker's services"),
    "local_directory": lambda given: checked_text(given, "a worker's directory", 10 * LONGEST_NAME),
    "versions": lambda given: _mapping(given, "a worker's versions"),
    "nanny": lambda given: checked_address(given, "the nanny of a worker") if given else None,
    "extra": lambda given: _mapping(given, "what a worker says besides"),
    "hostname": lambda given: checked_text(given, "the name of a worker's host"),
    "lifetime": lambda given: _seconds(given, "a worker's lifetime"),
}


def checked_details(given: dict[str, Any]) -> dict[str, Any]:
    """A worker's further words about itself; those that nobody here knows stay as they are.

    Raises:
        BadRequestError: one of these is not what it should be.
    """
    return {name: _DETAILS[name](value) if name in _DETAILS else value for name, value in given.items()}


def checked_status(given: object) -> str:
    """The name of a status.

    Raises:
        BadRequestError: there is none of that name.
    """
    if not isinstance(given, str) or given not in Status.__members__:
        raise BadRequestError(f"a worker's status cannot be {_short(given)}")
    return given


def _is_name(given: object) -> bool:
    if isinstance(given, tuple):
        return all(map(_is_name, given))
    if isinstance(given, float):
        return math.isfinite(given)
    return isinstance(given, _PLAIN_NAMES)


def _mapping(given: object, what: str) -> dict[Any, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise BadRequestError(f"{what} must be a dictionary, not {_short(given)}")
    return given


def _seconds(given: object, what: str) -> float | None:
    if given is None:
        return None
    if not isinstance(given, (int, float)) or isinstance(given, bool) or math.isnan(given):
        raise BadRequestError(f"{what} must be seconds, not {_short(given)}")
    return given


def _short(given: object) -> str:
    if isinstance(given, (str, bytes)) and len(given) > 80:
        return f"{given[:80]!r}… ({len(given)} characters)"
    text = repr(given)
    return text if len(text) <= 100 else f"{text[:100]}…"
