"""`headrace`: the commands under one name."""

from __future__ import annotations

import click

from .options import version_option
from .scheduler import scheduler
from .worker import worker


@click.group(name="headrace")
@version_option
def command() -> None:
    """A dynamic distributed task scheduler for Python."""


command.add_command(scheduler)
command.add_command(worker)


def main() -> None:
    """Console script."""
    command()


if __name__ == "__main__":
    main()
