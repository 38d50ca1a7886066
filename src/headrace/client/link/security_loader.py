"""Credentials from a function that the configuration names (`distributed.client.security-loader`)."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from headrace.config import get
from headrace.security import Security


def loaded_security(address: str | None) -> Security | None:
    """The configured function's credentials for a scheduler; None without a function, or if it gives nothing.

    The function is called with a dictionary that has the address, and returns a `Security` or None.

    Raises:
        ImportError: there is no such function.
        TypeError: it gave something else.
    """
    path = get("distributed.client.security-loader")
    if not path:
        return None
    module, _, name = str(path).rpartition(".")
    try:
        function: Callable[[dict[str, str | None]], object] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImportError(
            f"Failed to import `distributed.client.security-loader` {path!r}: {error}. "
            "It must be the full name of a function, such as 'package.module.function'"
        ) from error
    security = function({"address": address})
    if security is not None and not isinstance(security, Security):
        raise TypeError(
            f"Expected the function {path!r} of distributed.client.security-loader to return a Security or None, "
            f"but it returned {type(security).__name__}"
        )
    return security
