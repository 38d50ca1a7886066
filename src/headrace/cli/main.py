"""`headrace`: the commands under one name."""

from __future__ import annotations

import click

from .common_options import version_option
from .dask_scheduler import scheduler
from .dask_spec import spec
from .dask_ssh import ssh
from .dask_worker import worker
from .token_command import token


@click.group(name="headrace")
@version_option
def command() -> None:
    """A dynamic distributed task scheduler for Python."""


for one in (scheduler, spec, ssh, token, worker):
    command.add_command(one)


def main() -> None:
    """Run the command; a console script."""
    command()


if __name__ == "__main__":
    main()
