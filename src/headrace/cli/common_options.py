"""Options that several commands share, and the objects that their values stand for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from headrace.comm.addressing import ports_of
from headrace.security import Security

F = TypeVar("F", bound=Callable[..., Any])

#: Settings of commands with preload scripts, which may have options of their own.
PRELOADING = {"ignore_unknown_options": True}

_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True)


def tls_options(command: F) -> F:
    """Add the options about who may connect: --tls-ca-file, --tls-cert, --tls-key, --token-file and --no-auth."""
    for option in reversed(
        [
            click.option("--token-file", type=_FILE, default=None, help="File with the token of the cluster"),
            click.option("--no-auth", is_flag=True, help="Let everybody connect who can, without a token"),
            click.option("--tls-ca-file", type=_FILE, default=None, help="CA certificates for TLS, in PEM format"),
            click.option("--tls-cert", type=_FILE, default=None, help="Certificate for TLS, in PEM format"),
            click.option("--tls-key", type=_FILE, default=None, help="Private key for TLS, in PEM format"),
        ]
    ):
        command = option(command)
    return command


def security(
    role: str,
    ca_file: str | None,
    certificate: str | None,
    key: str | None,
    token_file: str | None,
    no_auth: bool,
) -> Security | None:
    """What the command line says about who may connect, for a role ("scheduler" or "worker"); None if it says nothing.

    Raises:
        click.BadParameter: the token file cannot be used; the message says why.
    """
    given: dict[str, Any] = {"tls_ca_file": ca_file, f"tls_{role}_cert": certificate, f"tls_{role}_key": key}
    given = given if any(given.values()) else {}
    if no_auth:
        given["auth"] = "none"
    if token_file is not None:
        given["token_file"] = token_file
    made = Security(**given) if given else None
    if made is not None and token_file is not None:
        try:
            made.tokens()
        except (OSError, ValueError) as error:
            raise click.BadParameter(str(error)) from None
    return made


def dashboard_options(default_address: str) -> Callable[[F], F]:
    """Add the options --dashboard-address, --dashboard/--no-dashboard and --dashboard-prefix to a command.

    Args:
        default_address: where HTTP is served unless the user says otherwise.
    """

    def decorate(command: F) -> F:
        for option in (
            click.option("--dashboard-prefix", type=str, default="", help="Path under which HTTP is served as well"),
            click.option(
                "--dashboard/--no-dashboard",
                default=True,
                help="Serve pages for people by HTTP; without, /health and /metrics are served alone",
            ),
            click.option(
                "--dashboard-address",
                type=str,
                default=default_address,
                show_default=True,
                callback=_check_place,
                help="Where HTTP is served: a port, ':PORT' or 'HOST:PORT', several with commas",
            ),
        ):
            command = option(command)
        return command

    return decorate


def _check_place(context: click.Context, option: click.Parameter, text: str) -> str:
    from headrace.http.http_places import places_of

    try:
        places_of(text, 0)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text


def dashboard_keywords(address: str, pages: bool, prefix: str) -> dict[str, Any]:
    """The keywords of a Scheduler, Worker or Nanny for the values of the options that `dashboard_options` adds."""
    return {"dashboard_address": address, "dashboard": pages, "http_prefix": prefix or "/"}


def note_ignored(context: click.Context, names: Iterable[str]) -> None:
    """Log those of the named options that were given, and have no meaning any more."""
    given = [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        logging.getLogger("distributed").info("Out of date, and left out: %s", options)


def preload_options(*names: str) -> Callable[[F], F]:
    """Add options such as --preload, and the argument `preload_argv` for the rest of the command line."""

    def decorate(command: F) -> F:
        command = click.argument("preload_argv", nargs=-1, type=click.UNPROCESSED)(command)
        for name in names:
            whom = "each nanny" if name.endswith("nanny") else "the process"
            command = click.option(
                f"--{name}",
                type=str,
                multiple=True,
                is_eager=True,
                help=f'Module to load in {whom}, such as "foo.bar" or "/path/to/foo.py"; may be repeated',
            )(command)
        return command

    return decorate


def check_preload_arguments(arguments: tuple[str, ...], preload: tuple[str, ...], configured: str) -> None:
    """Refuse arguments that no preload script is there to take.

    Args:
        configured: key of the configuration that may name scripts, too.

    Raises:
        click.UsageError: there are arguments and no scripts; the message names the first argument.
    """
    from headrace import config

    if arguments and not preload and not config.get(configured, None):
        kind = "No such option" if arguments[0].startswith("-") else "Got unexpected extra argument"
        raise click.UsageError(f"{kind}: {arguments[0]}")


def parse_ports(text: str | None) -> list[int | None]:
    """The ports that an option allows, in the order in which to try them.

    Raises:
        click.BadParameter: the text is neither a port nor a range of ports.
    """
    try:
        return ports_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def announce_worker(address: str, scheduler: str) -> None:
    """Print that a worker is up. Scripts that start workers wait for one of these lines."""
    click.echo(f"Start worker at: {address}", err=True)
    click.echo(f"Registered with scheduler at: {scheduler}", err=True)
    click.echo(f"Registered to: {scheduler}", err=True)


def version_option(command: F) -> F:
    """Add the option --version, which prints headrace's."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("headrace")
    except PackageNotFoundError:  # runs from a checkout that is not installed
        number = "not installed"
    return click.version_option(number, prog_name="headrace")(command)


def parse_resources(text: str | None) -> dict[str, float] | None:
    """A worker's resources from the text of an option.

    >>> parse_resources("GPU=2 MEM=10e9"), parse_resources("GPU=2,MEM=1")
    ({'GPU': 2.0, 'MEM': 10000000000.0}, {'GPU': 2.0, 'MEM': 1.0})

    Raises:
        click.BadParameter: a part of the text is not of the form NAME=NUMBER.
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
