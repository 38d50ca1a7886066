"""Options that the commands share, and the objects that they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from headrace.security import Security

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True)


def tls_options(command: F) -> F:
    """--tls-ca-file, --tls-cert, --tls-key."""
    for option in reversed(
        [
            click.option("--tls-ca-file", type=_FILE, default=None, help="CA certificates for TLS, in PEM format"),
            click.option("--tls-cert", type=_FILE, default=None, help="Certificate for TLS, in PEM format"),
            click.option("--tls-key", type=_FILE, default=None, help="Private key for TLS, in PEM format"),
        ]
    ):
        command = option(command)
    return command


def security(role: str, ca_file: str | None, certificate: str | None, key: str | None) -> Security | None:
    """The certificates given on the command line for a role ("scheduler" or "worker"); None when there are none."""
    given: dict[str, Any] = {"tls_ca_file": ca_file, f"tls_{role}_cert": certificate, f"tls_{role}_key": key}
    return Security(**given) if any(given.values()) else None


def version_option(command: F) -> F:
    """--version, of headrace."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("headrace")
    except PackageNotFoundError:  # runs from a checkout that is not installed
        number = "not installed"
    return click.version_option(number, prog_name="headrace")(command)


def parse_resources(text: str | None) -> dict[str, float] | None:
    """Resources as typed.

    >>> parse_resources("GPU=2 MEM=10e9"), parse_resources("GPU=2,MEM=1")
    ({'GPU': 2.0, 'MEM': 10000000000.0}, {'GPU': 2.0, 'MEM': 1.0})

    Raises:
        click.BadParameter: not of the form NAME=NUMBER.
    """
    if not text:
        return None
    resources = {}
    for part in text.replace(",", " ").split():
        name, equals, amount = part.partition("=")
        try:
            resources[name] = float(amount)
        except ValueError:
            equals = ""
        if not (name and equals):
            raise click.BadParameter(f"{part!r} is not of the form NAME=NUMBER, such as 'GPU=2 MEM=10e9'")
    return resources
