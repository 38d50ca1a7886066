"""`headrace token`: prints, makes and exchanges the secret by which the processes of a cluster know each other."""

from __future__ import annotations

import os

import click

from headrace.auth.token_places import SETTING, configured_tokens, find_tokens, make_token_file, own_token_file
from headrace.auth.tokens import Tokens, new_token, read_only_token


@click.group(name="token", invoke_without_command=True)
@click.option("--read-only", is_flag=True, help="Print the token that allows to look at pages, and to change nothing")
@click.pass_context
def token(context: click.Context, read_only: bool) -> None:
    """Print the token of this user's clusters; the first time, make it."""
    if context.invoked_subcommand is not None:
        return
    current = _found().valid[0]
    click.echo(read_only_token(current) if read_only else current)


@token.command(name="new")
@click.option("--print", "printed", is_flag=True, required=True, help="Print the token; it is stored nowhere")
def new(printed: bool) -> None:
    """Print a token that nobody has yet, for a secret of your own."""
    click.echo(new_token())


@token.command(name="rotate")
def rotate() -> None:
    """Make another token the current one; the one before stays valid until `headrace token drop-old`."""
    path = _own_file()
    make_token_file(path, new_token(), _found().valid[0], replace=True)
    click.echo(
        f"{path} holds a new token, and the one before, which is valid until you run `headrace token drop-old`. "
        "Processes take both from their next connection on; give copies of the file to other machines before that.",
        err=True,
    )


@token.command(name="drop-old")
def drop_old() -> None:
    """Let the token before the current one be valid no more."""
    path, found = _own_file(), _found()
    if len(found.valid) < 2:
        raise click.ClickException(f"{path} holds one token: there is no old one to drop")
    make_token_file(path, found.valid[0], replace=True)
    click.echo(f"{path} holds the current token alone", err=True)


def _own_file() -> str:
    """The user's file, if it is from there that tokens come.

    Raises:
        click.ClickException: they come from the configuration.
    """
    try:
        given = configured_tokens()
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if given is not None:
        raise click.ClickException(
            f"the token comes from {given.source}, not from the file of this user: exchange it there "
            f"(two may stand in {SETTING}, the current one first; `headrace token new --print` makes one)"
        )
    path = own_token_file()
    if not os.path.exists(path):
        _found()
    return path


def _found() -> Tokens:
    """The tokens of this user.

    Raises:
        click.ClickException: there are none, or they cannot be used; the message says why.
    """
    try:
        found = find_tokens()
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if not found:
        raise click.ClickException(f"there is no token: {found.problem}; set {SETTING} to one")
    return found
